"""The LUNA16 challenge: its tables, its rule, its score.

A mark detects a nodule if it lies closer to the centre than the nodule's radius; of several the highest counts.
Marks on irrelevant findings are neither right nor wrong. Only the 100 highest marks of a scan count. The score (CPM) is
the mean sensitivity at 1/8, 1/4, ..., 8 false positives per listed scan. (Setio et al. 2017; the challenge's script
noduleCADEvaluationLUNA16.py.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boxel.evaluation.bootstrap import draw_groups, in_blocks, interval, leave_out
from boxel.evaluation.box_table import rank_in_group
from boxel.evaluation.compare import compare_evaluations, twice
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import Evaluation, best_scores, is_smooth, make_curves, settings
from boxel.evaluation.grouped_matches import GroupedMatches
from boxel.evaluation.matching import MatchTable
from boxel.evaluation.overlaps import find_overlaps
from boxel.inputs.problems import InputError
from boxel.inputs.tables import read_table
from boxel.inputs.texts import read_text
from boxel.types import Detections, Instances

CLASSES = ("nodule",)
LUNA16 = EvaluateConfig(protocol="luna16")
MAX_MARKS = 100  # of a scan; the others are left out, as in the challenge's script
UNKNOWN_DIAMETER = 10.0  # mm, of irrelevant findings whose diameter is given as -1, as in the challenge's script
COORDINATES = ("coordZ", "coordY", "coordX")  # array order


@dataclass(frozen=True)
class Luna16Tables:
    """The scans, nodules and irrelevant findings, in mm; boxes are the cubes around the spheres, axes z, y, x.

    Attributes:
        scans: every listed scan.
        nodules: of each scan, with the line of the table as id.
        irrelevant: findings that are ignored, of the scans that have some.
    """

    scans: tuple[str, ...]
    nodules: Mapping[str, Instances]
    irrelevant: Mapping[str, Instances]


def is_luna16(folder: Path) -> bool:
    """Whether a folder has the challenge's tables."""
    return any((folder / f"{prefix}seriesuids.csv").exists() for prefix in ("", "new"))


def read_tables(folder: Path, marked: Sequence[str]) -> Luna16Tables:
    """The tables `annotations.csv`, `annotations_excluded.csv` and `seriesuids.csv`, or `new*.csv` with other ids.

    Args:
        folder: that holds them.
        marked: the scans that predictions name; the tables with their ids are read.

    Raises:
        ValueError: names the file, or the scan that no list has.
    """
    folder, problems = Path(folder), []
    if folder.is_file():
        raise ValueError(f"{folder}: is a file; give the folder of the challenge's tables (seriesuids.csv ...)")
    for prefix in ("", "new"):
        listed = folder / f"{prefix}seriesuids.csv"
        if not listed.exists():
            continue
        names = [_name(line) for line in read_text(listed, strict=True).split()]
        if len(set(names)) < len(names):
            raise ValueError(f"{listed}: a scan is listed twice; list each once")
        if unknown := sorted(set(marked) - set(names)):
            problems.append(f"{listed} does not list {unknown[0]!r} ({len(unknown)} such scans)")
            continue
        nodules = _read_spheres(folder / f"{prefix}annotations.csv")
        irrelevant = _read_spheres(folder / f"{prefix}annotations_excluded.csv")
        none = Instances.empty(len(COORDINATES))
        return Luna16Tables(tuple(names), {name: nodules.get(name, none) for name in names},
                            {name: irrelevant[name] for name in names if name in irrelevant})  # fmt: skip
    why = "; ".join(problems) or f"{folder}: no seriesuids.csv"
    raise ValueError(f"{why}; remove the marks of other scans, or give the folder of the tables with these ids")


def read_marks(path: Path) -> dict[str, Detections]:
    """The marks of each scan: a table with the columns seriesuid, coordX, coordY, coordZ (LPS mm) and probability.

    Returns:
        Boxes without extent, in mm, axes z, y, x.
    """
    detected: dict[str, list[tuple[float, ...]]] = {}
    for line, name, values in _read_rows(path, (*COORDINATES, "probability")):
        if not 0 <= values[-1] <= 1:
            raise InputError(path, f"line {line}: probability {values[-1]:g} is not within 0..1", "apply a sigmoid")
        detected.setdefault(name, []).append(values)
    return {name: _marks(np.array(rows)) for name, rows in detected.items()}


def _marks(rows: np.ndarray) -> Detections:
    boxes = np.repeat(rows[:, None, : len(COORDINATES)], 2, axis=1)
    return Detections(boxes, rows[:, -1], np.zeros(len(rows), np.int64))


def evaluate_luna16(
    marks: Mapping[str, Detections], tables: Luna16Tables, *, config: EvaluateConfig = LUNA16
) -> Evaluation:
    """The metrics of the challenge, of all listed scans and of those with nodules, with bootstrap intervals.

    "scans_with_nodules" leaves out marks and scans without nodules. It shows what a detector that was only applied
    there would reach; scored with all scans in the denominator, such a detector looks better than it is.

    Args:
        marks: of each scan; scans without marks may be missing.
        tables: of `read_tables`.
        config: number of bootstrap resamples of the scans (one per patient), and their random seed.
    """
    nothing = Detections.empty(len(COORDINATES))
    predictions = {**dict.fromkeys(tables.scans, nothing), **marks}
    overlaps = find_overlaps(
        predictions, tables.nodules, classes=CLASSES, criterion=Criterion("relative_distance"),
        ignored=tables.irrelevant, farthest=1.0,
    )  # fmt: skip
    least = _least_scores(overlaps.table)
    table = overlaps.above(least).match(1.0, "luna16")
    matches = GroupedMatches(table, np.arange(len(table.cases)))
    with_nodules = matches.objects[:, 0] > 0

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for suffix, of in (("", weights), ("/scans_with_nodules", weights * with_nodules)):
            curves = matches.curves(of, "area", froc=True, between=True)
            curves["CPM"] = curves.pop("FROC")
            values |= {f"{key}{suffix}": curves[key] for key in curves if key not in ("AP", "AR")}
        return values

    metrics: dict[str, Any] = {
        "num_images": len(table.cases), "num_images_with_objects": int(with_nodules.sum()),
        "num_objects": int(matches.objects.sum()), "num_missed": int((~table.detected & ~table.object_ignored).sum()),
        "num_detections": len(table.scores), "num_ignored_detections": int(table.ignored.sum()),
        "num_detections_beyond_limit": int((table.scores < least).sum()), "absent_classes": [],
    }  # fmt: skip
    resampled = in_blocks(compute, draw_groups(matches.num_groups, config.num_resamples, config.seed))
    left_out = in_blocks(compute, leave_out(matches.num_groups)) if resampled else {}
    for key, values in sorted(compute(np.ones((1, matches.num_groups))).items(), key=_order):
        metrics[key] = None if np.isnan(values[0, 0]) else float(values[0, 0])
        if resampled:
            how: dict[str, Any] = {"num_groups": matches.num_groups, "corrected": is_smooth(key)}
            metrics[f"{key}/ci95"] = interval(resampled[key][:, 0], values[0, 0], left_out=left_out[key][:, 0], **how)
    metrics["settings"] = settings(config) | {"criterion": "relative_distance", "max_marks": MAX_MARKS}
    return Evaluation(
        metrics, tuple(make_curves(matches)), table, table.cases, best_scores(matches), compute, resampled
    )


def compare_luna16(
    a: Mapping[str, Detections],
    b: Mapping[str, Detections],
    tables: Luna16Tables,
    *,
    config: EvaluateConfig = LUNA16,
) -> dict[str, Any]:
    """The metrics of the challenge for two detectors, and their differences; see `boxel.evaluation.compare`.

    Args:
        a: marks of the first, see `evaluate_luna16`.
        b: marks of the second.
        tables: of `read_tables`.
        config: number of bootstrap resamples and permutations, and their random seed.
    """
    alone = config.model_copy(update={"num_resamples": 0})
    nothing = Detections.empty(len(COORDINATES))
    a, b = ({**dict.fromkeys(tables.scans, nothing), **marks} for marks in (a, b))
    first, second = (evaluate_luna16(marks, tables, config=alone) for marks in (a, b))
    scans = tuple(twice(dict.fromkeys(tables.scans)))
    doubled = Luna16Tables(scans, twice(tables.nodules), twice(tables.irrelevant))
    both = evaluate_luna16(twice(a, b), doubled, config=alone)
    metrics = compare_evaluations(first, second, both, classes=CLASSES, config=config)
    # There is one class: its metrics are those over all classes.
    metrics = {name: values for name, values in metrics.items() if not name.endswith(f"/{CLASSES[0]}")}
    return {"metrics": metrics, "settings": first.metrics["settings"] | settings(config)}


def _least_scores(table: MatchTable) -> np.ndarray:
    """`(n,)` for each mark the score it must reach to be among those of its scan that count.

    The script keeps the marks above the 101st: of equal scores on the border none counts.
    """
    rank = rank_in_group(table.detection_cases)
    border = np.full(len(table.cases), -np.inf)
    last = rank == MAX_MARKS
    border[table.detection_cases[last]] = np.nextafter(table.scores[last], np.inf)
    return border[table.detection_cases]


def _order(item: tuple[str, np.ndarray]) -> tuple[bool, bool]:
    return item[0].endswith("scans_with_nodules"), not item[0].startswith("CPM")


def _name(text: str) -> str:
    """Series ids that are numbers are the same with and without leading zeros."""
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _read_spheres(path: Path) -> dict[str, Instances]:
    spheres: dict[str, list[tuple[float, ...]]] = {}
    for line, name, values in _read_rows(path, (*COORDINATES, "diameter_mm")):
        spheres.setdefault(name, []).append((line, *values))
    return {name: _cubes(np.array(rows)) for name, rows in spheres.items()}


def _cubes(rows: np.ndarray) -> Instances:
    centre, diameter = rows[:, 1:-1], rows[:, -1:]
    half = np.where(diameter < 0, UNKNOWN_DIAMETER, diameter) / 2
    boxes = np.stack([centre - half, centre + half], axis=1)
    return Instances(boxes, np.zeros(len(rows), np.int64), rows[:, 0].astype(np.int64), np.zeros(len(rows), bool))


def _read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, str, tuple[float, ...]]]:
    """Line number, scan and the numbers in `columns` of each row; commas, semicolons or tabs between."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the CSV table with the columns seriesuid, {', '.join(columns)}")
    if not path.exists():
        raise ValueError(f"{path}: no such file; it is the CSV table with the columns seriesuid, {', '.join(columns)}")
    rows = []
    for row in read_table(path, ("seriesuid", *columns), strict=True):
        try:
            rows.append((row.line, _name(row["seriesuid"]), tuple(map(row.number, columns))))
        except ValueError as error:
            raise InputError(path, f"line {row.line}: {error}", "write a number") from None
    return rows
