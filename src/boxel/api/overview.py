"""`boxel check --preview --html`: what a data set looks like to Boxel."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset, read_case, read_case_image
from boxel.datasets.quality.check import Examination
from boxel.datasets.quality.rules import Look
from boxel.io.display import visible_channels
from boxel.reporting import Picture
from boxel.reporting.charts import Chart, number
from boxel.reporting.overview import OverviewContent, histogram_chart, ranked_chart, write_overview, write_picture
from boxel.types import Detections, Instances
from boxel.wording import counted

__all__ = ["PAGE_PICTURES", "overview", "preview"]

PAGE_PICTURES = 12


def preview(examination: Examination, out: Path, count: int) -> list[Path]:
    """Write `CASE.png` of up to `count` cases to the folder `out`: the plane that shows most objects, with their boxes.

    The cases are spread over the data set; those with errors, then those with other findings, come first.
    """
    paths = []
    for picture in _pictures(examination, count):
        paths.append(out / f"{picture.case}.png")
        write_picture(paths[-1], picture)
    return paths


def overview(examination: Examination, out: Path, count: int) -> None:
    """Write one HTML page about a data set to the file `out`, with pictures of up to `count` cases.

    Raises:
        ValueError: the data set cannot be opened.
    """
    data = examination.dataset
    if data is None:
        raise ValueError(str(examination.findings[0]).partition(": ")[2])
    looks = examination.looks
    severities = Counter(finding.severity for finding in examination.findings)
    numbers = {"layout": data.format, "cases": f"{len(data.cases):,}", "axes": str(data.ndim),
               "channels": ", ".join(data.channels), "size": _spread_of([seen.shape for seen in looks]),
               "spacing": _spread_of([seen.spacing for seen in looks]),
               "objects": f"{sum(examination.objects.values()):,}",
               "errors": f"{severities['error']:,}", "warnings": f"{severities['warning']:,}"}  # fmt: skip
    content = OverviewContent(
        title=data.name,
        numbers=numbers,
        findings=examination.findings,
        pictures=_pictures(examination, count),
        charts=_charts(data, looks),
        rows=examination.rows(),
    )
    write_overview(out, content)


def _spread_of(values: Sequence[Sequence[float]]) -> str:
    """The values of all cases per axis: one, or the smallest and the largest."""
    if not values:
        return "unknown"
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    pairs = [(number(a), number(b)) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    return " \u00d7 ".join(a if a == b else f"{a}\u2013{b}" for a, b in pairs)


def _charts(data: Dataset, looks: Sequence[Look]) -> list[Chart | None]:
    sides: dict[str, list[np.ndarray]] = {name: [] for name in data.classes}
    for seen in looks:
        extents = (seen.boxes[:, 1] - seen.boxes[:, 0]) * np.asarray(seen.spacing)
        for label, extent in zip(seen.labels, extents, strict=True):
            sides[data.classes[label]].append(extent)
    sizes = {name: np.array([extent.max() for extent in of]) for name, of in sides.items()}
    ratios = {name: np.array([extent.max() / extent.min() for extent in of]) for name, of in sides.items()}
    axes = ("slice", "row", "column")[-data.ndim :]
    spacing = np.array([seen.spacing for seen in looks]).reshape(-1, data.ndim)
    shape = np.array([seen.shape for seen in looks]).reshape(-1, data.ndim)
    levels = np.array([seen.intensities for seen in looks]).reshape(-1, 3)
    names = ("1st percentile", "median", "99th percentile")
    unit = "voxels" if (spacing == 1).all() else "mm"
    return [
        histogram_chart("Object size", f"Longest side of the box ({unit})", sizes, log=True),
        histogram_chart("Aspect ratio", "Longest to shortest side", ratios, log=True),
        ranked_chart("Objects per case", "Objects", {"cases": np.array([len(seen.labels) for seen in looks])}),
        ranked_chart("Intensity", f"Voxel values ({data.channels[0]})", dict(zip(names, levels.T, strict=True))),
        ranked_chart("Spacing", "mm per voxel", dict(zip(axes, spacing.T, strict=True))),
        ranked_chart("Image size", "Voxels", dict(zip(axes, shape.T, strict=True))),
    ]


def _pictures(examination: Examination, count: int) -> list[Picture]:
    data = examination.dataset
    if data is None:
        return []
    refused = _refused(examination, data, (count + 1) // 2)
    chosen = _spread(examination, count - len(refused))
    return refused + [
        Picture(
            case=seen.case.id,
            image=partial(_channels, seen.case, data),
            ground_truth=Instances(seen.boxes, np.array(seen.labels, np.int64), np.arange(1, len(seen.labels) + 1),
                                   np.zeros(len(seen.labels), bool)),
            detections=Detections.empty(data.ndim),
            classes=data.classes,
            caption=counted(len(seen.labels), "object"),
            spacing=seen.spacing,
        )
        for seen in chosen
    ]  # fmt: skip


def _refused(examination: Examination, data: Dataset, count: int) -> list[Picture]:
    """Up to `count` cases with errors whose image can be read, without objects and with the error as the caption."""
    seen = {look.case.id for look in examination.looks}
    errors = {finding.case: finding.problem for finding in examination.findings if finding.severity == "error"}
    pictures: list[Picture] = []
    for case in (case for case in data.cases if case.id not in seen):
        if len(pictures) == count:
            break
        try:
            image = read_case_image(replace(case, declared=None), data)
        except ValueError:
            continue  # nothing to see
        caption = f"error: {errors.get(case.id, 'see the findings')}"
        channels = visible_channels(image.array, case.channels)
        nothing = Instances.empty(data.ndim), Detections.empty(data.ndim)
        pictures.append(Picture(case.id, channels, *nothing, data.classes, caption, image.geometry.spacing))
    return pictures


def _spread(examination: Examination, count: int) -> list[Look]:
    """Up to `count` readable cases: half of them with findings if there are some, the others at equal distances."""
    looks = list(examination.looks)
    doubtful = {finding.case for finding in examination.findings if finding.severity != "note"}
    first = [seen for seen in looks if seen.case.id in doubtful][: (count + 1) // 2]
    others = [seen for seen in looks if seen not in first]
    places = np.unique(np.linspace(0, len(others) - 1, min(count - len(first), len(others))).round().astype(int))
    return first + [others[place] for place in places]


def _channels(case: Case, data: Dataset) -> np.ndarray:
    return visible_channels(read_case(case, data).image.array, case.channels)
