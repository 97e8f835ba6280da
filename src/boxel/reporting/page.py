"""The report: one HTML file that needs no network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import write_text
from boxel.reporting.charts import (
    CurveLike,
    calibration_chart,
    froc_chart,
    learning_charts,
    precision_recall_chart,
    score_charts,
)
from boxel.reporting.pictures import Picture, draw, draw_detail
from boxel.reporting.tables import cards, class_table, confusion_table, notes, size_table


@dataclass(frozen=True)
class Detail:
    """A box to look at: the picture of its case, and its corners `(2, d)`."""

    picture: Picture
    focus: np.ndarray


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
        scores: for each class the scores of its hits and of its false positives.
        misses: objects that were not found, the worst first.
        false_positives: detections that found nothing, the highest first.
        pictures: cases to show.
    """

    title: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[CurveLike] = ()
    history: Sequence[Mapping[str, Any]] = ()
    plan: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    misses: Sequence[Detail] = ()
    false_positives: Sequence[Detail] = ()
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
    made = [precision_recall_chart(content.curves, iou, content.metrics) for iou in ends]
    made += [froc_chart(content.curves, iou, content.metrics) for iou in ends]
    curves = [chart for chart in made if chart]
    text = environment.get_template("page.html.j2").render(
        title=content.title,
        cards=cards(content.metrics, ends),
        table=class_table(content.metrics, ends),
        notes=notes(content.metrics),
        sizes=size_table(content.metrics, ends),
        confusion=confusion_table(content.metrics, ends),
        learning=learning_charts(content.history),
        curves=curves,
        scores=score_charts(content.scores) + [made for made in [calibration_chart(content.metrics, ends)] if made],
        findings=[
            (title, [draw_detail(detail.picture, detail.focus) for detail in details])
            for title, details in (
                ("Worst misses", content.misses),
                ("Highest false positives", content.false_positives),
            )
            if details
        ],
        num_images=content.metrics.get("num_images", len(content.pictures)),
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
