"""The headline metrics of an evaluation as a table of plain text."""

from collections.abc import Iterator, Mapping
from typing import Any

from boxel.escaping import printable
from boxel.evaluation.case_segmentation import THIRDS
from boxel.evaluation.config import IOU_THRESHOLDS
from boxel.evaluation.panoptic import PANOPTIC
from boxel.evaluation.registry import added_metrics
from boxel.wording import counted

_AT_EACH = ("FROC", "precision", "recall", "F1", "ECE")
MOST_CLASSES = 5  # columns that fit a terminal
PROTOCOL_METRICS = ("AP", "AUROC", "score", "AP50", "AP75", "AR100", "CPM", "CPM/scans_with_nodules")
OVERLAP_METRICS = (
    "DSC/slices_with_object", *(f"DSC/{third}" for third in THIRDS), "DSC/slices", "DSC", "IoU", "precision", "recall",
)  # fmt: skip
DISTANCE_METRICS = ("HD95", "mean_surface_distance")


def summary(metrics: Mapping[str, Any]) -> str:
    """A row for each headline metric: its value, its 95 % interval, and the value of each class."""
    classes = [key.removeprefix("num_objects/") for key in metrics if key.startswith("num_objects/")]
    classes = classes if 1 < len(classes) <= MOST_CLASSES else []
    rows = [["", "all", "95 % interval", *map(printable, classes)]]
    for name in filter(metrics.__contains__, headline_names(metrics)):
        interval = metrics.get(f"{name}/ci95")
        ends = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        rows.append([name, *map(_text, [metrics[name]]), ends, *(_text(metrics.get(f"{name}/{c}")) for c in classes)])
    for name in ("num_objects", "num_detections"):
        if name in metrics:
            each = [f"{metrics[f'{name}/{c}']:,}" for c in classes]
            rows.append([name.removeprefix("num_"), f"{metrics[name]:,}", "", *each])
    if not any(row[2] for row in rows[1:]):
        rows = [row[:2] + row[3:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([*lines, *_remarks(metrics)])


def headline_names(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The names of the metrics that a summary shows, whether computed or not."""
    thresholds = metrics.get("settings", {}).get("iou_thresholds", [])
    default = tuple(thresholds) == IOU_THRESHOLDS
    ends = [f"@{threshold:.2f}" for threshold in (thresholds[:: len(thresholds) - 1] if default else thresholds)]
    yield from (f"AP{end}" for end in ends)
    yield from (key for key in metrics if key.startswith("mAP@") and "/" not in key)
    if ends:
        yield from (f"{name}{end}" for end in ends[: 1 if default else None] for name in _AT_EACH)
        yield from (key for key in metrics if "/score=" in key and key.count("/") == 1)
    yield from ("patient_AP", "patient_AUROC", *PROTOCOL_METRICS, *OVERLAP_METRICS, *DISTANCE_METRICS, *PANOPTIC)
    yield from (key for key in metrics if key.startswith("sensitivity/fp=") and key.count("/") == 1)
    for name in added_metrics():
        yield from (name, *(f"{name}{end}" for end in ends))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _remarks(metrics: Mapping[str, Any]) -> Iterator[str]:
    images, groups = metrics["num_images"], metrics.get("num_groups")
    patients = f" of {counted(groups, 'patient')}" if groups not in (None, images) else ""
    yield f"{counted(images, 'image')}{patients}"
    if number := metrics.get("no_region"):
        yield f"a class annotated in an image, but nowhere predicted in it: {counted(number, 'time')}"
    if "patient_AP" in metrics and metrics["patient_AP"] is None:
        yield "patient metrics need patients with and without objects"
    if metrics.get("absent_classes"):
        yield f"classes without objects: {', '.join(map(printable, metrics['absent_classes']))}"
