"""CSV: one line per detection in `detections.csv`; a case without detections has one line with only its name.

Boxes in voxels (axes in array order, half-open) and, where the image has a position or a spacing, centre and size in
LPS mm: plain pictures have no columns in mm.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.config import write_text
from boxel.escaping import csv_line, csv_text, from_csv_text
from boxel.export.entries import Entry, collect, holds
from boxel.export.prediction import DatasetInfo, Prediction, in_mm
from boxel.export.registry import register_export

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
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name the file that Boxel wrote") from None
    axes = sorted(key.removeprefix("lower_") for key in (lines[0] if lines else {}) if key.startswith("lower_"))
    cases: dict[str, list[Entry]] = {}
    for number, line in enumerate(lines, start=2):
        try:
            entries = cases.setdefault(from_csv_text(line["case"]), [])
            if line["class"]:
                box = [[float(line[f"{end}_{axis}"]) for axis in axes] for end in ("lower", "upper")]
                entries.append((np.array(box), float(line["score"]), from_csv_text(line["class"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: line {number} is no detection ({error}); see docs/how_to/export.md") from None
    located = {case: (entries, info.geometries.get(case)) for case, entries in cases.items()}
    return collect(path, located, info.classes, len(axes))


def detect(path: Path) -> bool:
    """Whether there is a file `detections.csv`."""
    return holds(path, NAME)


def _rounded(values: np.ndarray) -> list[str]:
    return [f"{value + 0.0:.4f}" for value in values]


register_export("csv", write, read, detect)
