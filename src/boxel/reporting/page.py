"""The report: one HTML file that needs no network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boxel.config import write_text
from boxel.reporting.charts import CurveLike, froc_chart, learning_charts, precision_recall_chart
from boxel.reporting.pictures import Picture, draw

ABSENT = "\N{EN DASH}"


@dataclass(frozen=True)
class ReportContent:
    """What a report shows; sections without content are left out.

    Attributes:
        title: of the page.
        metrics: as in `metrics.json`.
        curves: precision-recall and FROC curves of the evaluation.
        history: rows of `metrics.jsonl`: "step" and any of "loss", "loss/...", "val/...", "lr".
        plan: a sentence of why for each choice of the plan.
        recipe: the configuration as resolved.
        environment: versions, hardware, seed.
        pictures: cases to show.
    """

    title: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[CurveLike] = ()
    history: Sequence[Mapping[str, Any]] = ()
    plan: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()


def write_report(out: Path, content: ReportContent) -> None:
    """Write the report to the file `out`; it appears whole or not at all."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("boxel.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    thresholds = content.metrics.get("settings", {}).get("iou_thresholds", [])
    ends = sorted({min(thresholds), max(thresholds)}) if thresholds else []
    makers = (precision_recall_chart, froc_chart)
    curves = [made for make in makers for iou in ends if (made := make(content.curves, iou))]
    text = environment.get_template("page.html.j2").render(
        title=content.title,
        cards=_cards(content.metrics, ends),
        table=_class_table(content.metrics, ends),
        notes=_notes(content.metrics),
        learning=learning_charts(content.history),
        curves=curves,
        pictures=[draw(picture) for picture in content.pictures],
        plan=dict(content.plan),
        details=[
            (name, json.dumps(values, indent=2, ensure_ascii=False, default=str))
            for name, values in (
                ("All figures", content.metrics),
                ("Recipe", content.recipe),
                ("Environment", content.environment),
            )
            if values
        ],
    )
    write_text(out, text)


def _cards(metrics: Mapping[str, Any], ends: Sequence[float]) -> list[dict[str, str]]:
    """The headline figures that exist: name, value, interval, meaning."""
    wanted = [(f"AP@{iou:.2f}", f"average precision, IoU ≥ {iou:.2f}") for iou in ends]
    wanted += [(key, "mean over IoU thresholds") for key in metrics if key.startswith("mAP@") and "/" not in key]
    wanted += [(f"FROC@{iou:.2f}", "mean sensitivity at 1/8 … 8 false positives per image") for iou in ends[:1]]
    wanted += [
        ("patient_AP", "average precision per patient"),
        ("patient_AUROC", "area under the ROC, per patient"),
    ]
    wanted += [
        ("num_images", "images judged"),
        ("num_objects", "annotated objects"),
        ("num_detections", "detections"),
    ]
    return [
        {"name": key.replace("_", " ").removeprefix("num "), "value": _figure(metrics[key]),
         "interval": _interval(metrics.get(f"{key}/ci95")), "meaning": meaning}
        for key, meaning in wanted if key in metrics
    ]  # fmt: skip


def _class_table(metrics: Mapping[str, Any], ends: Sequence[float]) -> dict[str, list]:
    """A row per class, a column per figure."""
    names = [key.removeprefix("num_objects/") for key in metrics if key.startswith("num_objects/")]
    columns = [("num_objects", "objects"), ("num_detections", "detections")]
    columns += [(f"AP@{iou:.2f}", f"AP@{iou:.2f}") for iou in ends]
    for iou in ends[:1]:
        columns += [(f"{key}@{iou:.2f}", key) for key in ("FROC", "precision", "recall", "F1")]
        columns += [(f"score_threshold@{iou:.2f}", "at score ≥"), (f"mean_iou@{iou:.2f}", "mean IoU")]
    columns += [("patient_AP", "patient AP"), ("patient_AUROC", "patient AUROC")]
    rows = []
    for name in names:
        keys = [f"{key}/{name}" for key, _ in columns]
        cells = [(_figure(metrics.get(key)), _interval(metrics.get(f"{key}/ci95"))) for key in keys]
        rows.append((name, cells))
    return {"columns": [title for _, title in columns], "rows": rows}


_RULES = {"greedy": "greedily in descending score (COCO)", "mdt": "by best overlap only"}
_INTERPOLATIONS = {
    "101": "the mean at 101 recalls (COCO)",
    "11": "the mean at 11 recalls (VOC 2007)",
    "area": "the area under the envelope (VOC 2010)",
    "step": "the area under the steps",
}


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    settings = metrics.get("settings", {})
    notes = []
    if absent := metrics.get("absent_classes"):
        notes.append(f"No object of class {', '.join(absent)} is annotated; its figures are not defined ({ABSENT}).")
    if settings:
        notes.append(
            f"Detections are matched {_RULES[settings['rule']]}; average precision is "
            f"{_INTERPOLATIONS[settings['interpolation']]}. Precision, recall and F1 are at the score with "
            "the highest F1 on these images, which is optimistic."
        )
        if settings["num_resamples"]:
            notes.append(
                f"In brackets: 95 % intervals from {settings['num_resamples']} bootstrap resamples of "
                f"{metrics['num_groups']} patients (seed {settings['seed']})."
            )
    return notes


def _figure(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _interval(value: Any) -> str:
    return f"[{value[0]:.3f}, {value[1]:.3f}]" if value else ""
