"""A reader of your own data set layout in one file: one picture per case and one line per object.

    my_layout.csv       image,x,y,width,height,class     in pixels; a picture without objects has no line
    pictures/NAME.png

    boxel check data --plugin examples/my_dataset.py
    boxel prepare data --plugin examples/my_dataset.py --format my_layout --out work

A reader says whether a folder has its layout (`detect`) and returns the cases (`read`). It opens no image: Boxel does
that later, and checks then that every box lies inside its image.
"""

import csv
from pathlib import Path

import numpy as np

import boxel
from boxel.datasets.problems import InputError, Report

TABLE = "my_layout.csv"


def detect(path: Path) -> bool:
    """Whether this is a data set in my layout."""
    return (path / TABLE).is_file()


def read(path: Path, report: Report) -> boxel.Dataset:
    """The data set at `path`; `report` is called with every problem, and reading continues with the other lines."""
    objects: dict[str, list[tuple[list[list[float]], str]]] = {
        image.name: [] for image in (path / "pictures").iterdir()
    }
    with (path / TABLE).open(newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                x, y, width, height = (float(line[name]) for name in ("x", "y", "width", "height"))
                # Boxes are lower and upper corner, axes in array order: rows (y) before columns (x).
                objects[line["image"]].append(([[y, x], [y + height, x + width]], line["class"]))
            except (KeyError, TypeError, ValueError) as error:
                report(InputError(path / TABLE, f"line {number} is not an object ({error})", "correct or remove it"))
    classes = sorted({name for entries in objects.values() for _, name in entries})
    cases = []
    for image, entries in sorted(objects.items()):
        instances = boxel.Instances(
            boxes=np.array([box for box, _ in entries], np.float32).reshape(-1, 2, 2),
            labels=np.array([classes.index(name) for _, name in entries], np.int64),
            ids=np.arange(1, len(entries) + 1),
            has_mask=np.zeros(len(entries), bool),
        )
        picture = path / "pictures" / image
        cases.append(boxel.Case(picture.stem, (picture,), box_instances=instances, annotation=path / TABLE))
    return boxel.Dataset(path, path.resolve().name, 2, tuple(classes), ("grey",), tuple(cases))


boxel.register_format("my_layout", detect, read, f"{TABLE} beside a folder pictures/")
