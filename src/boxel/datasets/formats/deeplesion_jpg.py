"""Key slices of DeepLesion as 8-bit pictures: NAME.jpg, and NAME.tru with `label ymin xmin ymax xmax` in fractions."""

from pathlib import Path
from typing import Literal

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.deeplesion import TYPES
from boxel.datasets.formats.files import numbers, pictures_layout
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.lookup import Lookup
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_text

__all__ = ["Options", "detect", "read"]


class Options(ReaderOptions):
    """`classes`: the eight types, or one class `lesion`."""

    classes: Literal["type", "lesion"] = "type"


def detect(path: Path) -> bool:
    return any(file.suffix == ".tru" for file in listing(path))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    lookup = Lookup(path, report, folders=())
    cases = []
    for file in (file for file in listing(path) if file.suffix == ".tru"):
        try:
            image = lookup.find(file.stem, file)
            shapes = []
            for line in filter(str.strip, read_text(file).splitlines()):
                label, *corners = numbers(line.split(), file, f"line {line!r}", 5)
                kind = int(label) - 1 if options.classes == "type" else 0
                shapes.append(Shape(kind, (tuple(corners[:2]), tuple(corners[2:])), frame="fraction"))
        except InputError as problem:
            report(problem.of(file.stem))
            continue
        group = file.stem.split("_")[0]
        annotate = Shapes(tuple(shapes))
        cases.append(Case(file.stem, (image,), group=group, annotation=file, annotate=annotate))
    lookup.report_unused()
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    classes = TYPES[:-1] if options.classes == "type" else ("lesion",)
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases))


register_format("deeplesion_jpg", detect, read, "DeepLesion as pictures: NAME.jpg and NAME.tru", Options, order=110)
