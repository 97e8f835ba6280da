"""An export format of your own in one file: one text file per case, one line per object, written and read back.

    CASE.boxes.txt      class score lower... upper...     in voxels, axes in array order

    boxel predict run scans/ --plugin examples/my_format.py --to my_format --out predictions
    boxel convert predictions --plugin examples/my_format.py --to my_format --out texts
    boxel evaluate texts data --plugin examples/my_format.py --from my_format --out evaluation

A format has a function that writes the predictions of a data set and, if `evaluate` and `convert --from` shall read
them, one that reads them back.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import boxel
from boxel.config import write_text
from boxel.export import Prediction
from boxel.export.formats import Predictions, case_file, collect
from boxel.types import Geometry

SUFFIX = ".boxes.txt"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write one file per case into the folder `out`."""
    files = []
    for prediction in predictions:
        lines = [
            f"{name} {score:.6f} {' '.join(f'{number:.4f}' for number in box.ravel())}\n"
            for _, box, score, name in prediction.ranking
        ]
        files.append(case_file(out, prediction.case, SUFFIX))
        write_text(files[-1], "".join(lines))
    return files


def read(path: Path, classes: Sequence[str], geometries: Mapping[str, Geometry]) -> Predictions:
    """The detections of each case in a folder that `write` wrote."""
    cases = {}
    for file in sorted(path.glob(f"*{SUFFIX}")):
        entries = []
        for line in file.read_text().splitlines():
            name, score, *numbers = line.split()
            entries.append((np.array(numbers, float).reshape(2, -1), float(score), name))
        cases[file.name.removesuffix(SUFFIX)] = entries
    return collect(path, cases, classes, geometries)


boxel.register_export("my_format", write, read)
