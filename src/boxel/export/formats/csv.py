"""CSV: one line per detection in `detections.csv`; a case without detections has one line with only its name.

Boxes in voxels (axes in array order, half-open) and, where the image has a position or a spacing, centre and size in
LPS mm: plain pictures have no columns in mm.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.escaping import csv_line, csv_text, from_csv_text
from boxel.export.entries import Entry, collect, entries_of, holds
from boxel.export.prediction import DatasetInfo, Prediction, in_mm
from boxel.export.registry import register_export
from boxel.files import write_text
from boxel.inputs.problems import InputError
from boxel.inputs.tables import Row, read_table

NAME = "detections.csv"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/detections.csv`."""
    ndim = max((p.detections.boxes.shape[-1] for p in predictions), default=0)
    columns = ["case", "class", "score", *(f"{end}_{axis}" for end in ("lower", "upper") for axis in range(ndim))]
    located = [in_mm(p.detections.geometry, p.image_files) for p in predictions]
    if any(located):
        columns += [f"centre_{axis}_mm" for axis in "xyz"[:ndim]] + [f"size_{axis}_mm" for axis in range(ndim)]
    lines = [csv_line(columns)]
    for prediction, has_mm in zip(predictions, located, strict=True):
        geometry = prediction.detections.geometry if has_mm else None
        for _, box, score, name in prediction.ranking:
            values = [csv_text(prediction.case), csv_text(name), f"{score:.6f}", *_rounded(box.ravel())]
            if geometry:
                values += _rounded(geometry.to_world(box.mean(axis=0)[None])[0])
                values += _rounded((box[1] - box[0]) * geometry.spacing)
            lines.append(csv_line([*values, *[""] * (len(columns) - len(values))]))
        if not len(prediction.detections):
            lines.append(csv_line([csv_text(prediction.case), *[""] * (len(columns) - 1)]))
    path = Path(out) / NAME
    write_text(path, "".join(lines))
    return [path]


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from a file that `write` wrote, or from its folder.

    Raises:
        ValueError: names the file, the line and the rule.
    """
    path = path / NAME if path.is_dir() else path
    rows = read_table(path, ("case", "class", "score"), strict=True)
    if not rows:
        raise InputError(path, "names no case", "predict again; a case without detections has a line with its name")
    axes = sorted(key.removeprefix("lower_") for key in rows[0] if key.startswith("lower_"))

    def build(row: Row) -> tuple[np.ndarray, float, str]:
        box = [[row.number(f"{end}_{axis}") for axis in axes] for end in ("lower", "upper")]
        return np.array(box), row.number("score"), from_csv_text(row["class"])

    cases: dict[str, list[Entry]] = {}
    for row in rows:
        entries = cases.setdefault(from_csv_text(row["case"]), [])
        entries += entries_of(path, [(f"line {row.line}", row)] if row["class"] else (), build)
    located = {case: (entries, info.geometries.get(case), path) for case, entries in cases.items()}
    return collect(located, info.classes, len(axes))


def detect(path: Path) -> bool:
    """Whether there is a file `detections.csv`."""
    return holds(path, NAME)


def _rounded(values: np.ndarray) -> list[str]:
    return [f"{value + 0.0:.4f}" for value in values]


register_export("csv", write, read, detect)
