"""The report: one self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from boxel.escaping import printable
from boxel.files import write_text
from boxel.operating_points import OperatingPoints
from boxel.reporting.charts import (
    MOST_CLASSES,
    CurveLike,
    calibration_chart,
    dice_charts,
    froc_chart,
    learning_charts,
    precision_recall_chart,
    score_charts,
)
from boxel.reporting.drawing import chart_svg
from boxel.reporting.pictures import Picture, draw, draw_detail
from boxel.reporting.tables import (
    cards,
    class_table,
    confusion_table,
    notes,
    points_table,
    segmentation_cards,
    segmentation_table,
    size_table,
)
from boxel.wording import counted

# By this a later command recognises a page that it may replace.
PAGE_BEGINS = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta name="generator" content="Boxel">'


@dataclass(frozen=True)
class Detail:
    """A close-up of one box: the picture of its case, and the corners `(2, d)`."""

    picture: Picture
    focus: np.ndarray


class SegmentationLike(Protocol):
    """The part of `boxel.evaluation.SegmentationEvaluation` that a report reads."""

    @property
    def metrics(self) -> Mapping[str, Any]: ...
    @property
    def unit(self) -> str: ...
    def sizes(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]: ...


@dataclass(frozen=True)
class ReportContent:
    """What a report shows; sections without content are left out.

    Attributes:
        title: the heading of the page.
        metrics: as in `metrics.json`.
        curves: precision-recall and FROC curves of the evaluation.
        history: rows of `metrics.jsonl`: "step" and any of "loss", "loss/...", "val/...", "lr".
        plan: the reason for each choice of the plan, in a sentence.
        points: the operating points that were measured on validation images.
        recipe: the resolved configuration.
        environment: versions, hardware, seed.
        scores: for each class the scores of its true and of its false positives.
        segmentation: the evaluation of segmentations.
        no_segmentation: why there is none, although segmentations were predicted.
        missed: objects that were not detected, the most serious first.
        false_positives: detections without an object, the highest score first.
        pictures: cases to look through.
    """

    title: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[CurveLike] = ()
    history: Sequence[Mapping[str, Any]] = ()
    plan: Mapping[str, str] = field(default_factory=dict)
    points: OperatingPoints | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    segmentation: SegmentationLike | None = None
    no_segmentation: str = ""
    missed: Sequence[Detail] = ()
    false_positives: Sequence[Detail] = ()
    pictures: Sequence[Picture] = ()


def get_template(name: str) -> Any:
    """A page's template, which has no undefined values and escapes all text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("boxel.reporting", "."),
        autoescape=True,
        finalize=lambda value: printable(value, lines=True) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def write_report(out: Path, content: ReportContent) -> None:
    """Write the report to the file `out`, which appears complete or not at all."""
    thresholds = content.metrics.get("settings", {}).get("iou_thresholds", [])
    ends = sorted({min(thresholds), max(thresholds)}) if thresholds else []
    curves = [precision_recall_chart(content.curves, iou, content.metrics) for iou in ends]
    curves += [froc_chart(content.curves, iou, content.metrics) for iou in ends]
    calibration = [calibration_chart(content.metrics, iou) for iou in ends[:1]]
    masks = content.segmentation
    text = get_template("page.html.j2").render(
        title=content.title,
        cards=[*(segmentation_cards(masks.metrics) if masks else ()), *cards(content.metrics, ends)],
        table=class_table(content.metrics, ends),
        notes=notes(content.metrics),
        segmentation=segmentation_table(masks.metrics) if masks else {"rows": []},
        no_segmentation=content.no_segmentation,
        dice=[chart_svg(chart) for chart in dice_charts(masks.sizes(), masks.unit).values()] if masks else [],
        sizes=size_table(content.metrics, ends),
        confusion=confusion_table(content.metrics, ends),
        learning=[chart_svg(chart) for chart in learning_charts(content.history)],
        curves=[chart_svg(chart) for chart in curves if chart],
        few_classes=len(content.scores) > MOST_CLASSES,
        scores=[chart_svg(chart) for chart in [*score_charts(content.scores), *calibration] if chart],
        errors=[
            (title, [draw_detail(detail.picture, detail.focus) for detail in details])
            for title, details in (
                ("Missed objects", content.missed),
                ("Highest false positives", content.false_positives),
            )
            if details
        ],
        outlined=any(picture.label_map for picture in content.pictures),
        num_images=content.metrics.get("num_images", len(content.pictures)),
        pictures=[draw(picture) for picture in content.pictures],
        points=points_table(content.points),
        validated=counted(content.points.num_images, "validation image") if content.points else "",
        plan=dict(content.plan),
        details=[
            (name, json.dumps(values, indent=2, ensure_ascii=False, default=str))
            for name, values in (
                ("All metrics", content.metrics),
                ("All metrics of segmentations", masks.metrics if masks else {}),
                ("Recipe", content.recipe),
                ("Environment", content.environment),
            )
            if values
        ],
    )
    write_text(out, text)
