"""An export format of your own in one file: one text file per case, one line of JSON per detection.

    CASE.boxes.txt      ["nodule", 0.93, [[12.0, 30.5, 41.0], [18.0, 42.5, 55.0]]]      voxels, axes in array order

    boxel predict run scans/ --plugin examples/my_format.py --to my_format --out predictions
    boxel convert predictions --plugin examples/my_format.py --to my_format --out texts
    boxel evaluate texts data --plugin examples/my_format.py --out evaluation

A format has a function that writes the predictions of a data set and, if `evaluate` and `convert --from` shall read
them, one that reads them back and one that recognises them. `boxel.testing.check_exporter("my_format")` tests it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import boxel
from boxel.export import DatasetInfo, Prediction
from boxel.export.entries import case_file, case_files, collect, entries_of
from boxel.files import write_text
from boxel.inputs.texts import read_text

SUFFIX = ".boxes.txt"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write one file per case into the folder `out`."""
    files = []
    for prediction in predictions:
        lines = [json.dumps([name, score, box.tolist()]) + "\n" for _, box, score, name in prediction.ranking]
        files.append(case_file(out, prediction.case, SUFFIX))
        write_text(files[-1], "".join(lines))
    return files


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """The predictions in a folder that `write` wrote."""
    cases = {}
    for case, file in case_files(path, SUFFIX).items():
        lines = enumerate(read_text(file).splitlines(), start=1)
        entries = entries_of(file, ((f"line {number}", line) for number, line in lines), _entry)
        cases[case] = entries, info.geometries.get(case), file
    return collect(cases, info.classes)


def _entry(line: str) -> tuple[np.ndarray, float, str]:
    """Box, score and class; an error here becomes one that names the file and the line."""
    name, score, box = json.loads(line)
    return np.array(box, float), score, name


def detect(path: Path) -> bool:
    """Whether a folder holds this format; opens no file."""
    return any(path.glob(f"*{SUFFIX}"))


boxel.register_export("my_format", write, read, detect)
