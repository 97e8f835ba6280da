"""CVAT's YOLO 1.1, which is Darknet's: text files beside the pictures, and lists of the pictures.

obj.data                   classes = 2, names = data/obj.names, train = data/train.txt, valid = ...
obj.names                  a class per line
train.txt                  data/obj_train_data/a.png ...: the pictures of the part, a path per line
obj_train_data/a.png       the picture, and a.txt: `class x_centre y_centre width height`, in fractions
"""

from pathlib import Path

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import numbers, pictures_layout
from boxel.datasets.formats.options import ImageOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.yolo_lines import names_in
from boxel.datasets.lookup import Lookup
from boxel.datasets.names import as_id, case_ids, part_named
from boxel.datasets.problems import InputError, Report
from boxel.inputs.texts import read_text

__all__ = ["Options", "detect", "read"]

LISTS = ("train", "valid", "val", "test")


class Options(ImageOptions):
    """Settings of the reader."""


def detect(path: Path) -> bool:
    return (path / "obj.data").is_file()


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    head = path / "obj.data"
    pairs = (line.partition("=") for line in read_text(head).splitlines())
    values = {key.strip(): value.strip() for key, separator, value in pairs if separator}
    names = path / Path(values.get("names", "obj.names")).name
    _check_there(names, head)
    classes = tuple(names_in(names))
    if as_id(values.get("classes")) not in (None, len(classes)):
        problem = f"classes is {values['classes']}, but the number of names in {names.name} is {len(classes)}"
        report(InputError(head, problem, "correct it, or the names if some are missing", severity="warning"))
    lookup = Lookup(path, report, options.images)
    listed: list[tuple[Path, str]] = []
    lists = {key: path / f"{key}.txt" for key in LISTS if (path / f"{key}.txt").exists()}
    lists |= {key: path / Path(value).name for key, value in values.items() if value.endswith(".txt")}
    for key, file in lists.items():
        part = part_named(key)
        if not part:
            problem = f"the list {file.name} of {key!r} is none of train, valid and test, and is not used"
            report(InputError(head, problem, "name its part", severity="warning"))
            continue
        _check_there(file, head)
        for line in filter(None, map(str.strip, read_text(file).splitlines())):
            try:
                listed.append((lookup.find(line, file), part))
            except InputError as problem:
                report(problem.of(Path(line).stem))
    lookup.report_unused()
    cases, parts = [], dict[str, list[str]](train=[], val=[], test=[])
    for (image, part), case in zip(listed, case_ids([image for image, _ in listed], path), strict=True):
        text = image.with_suffix(".txt")
        try:
            if not text.exists():
                fix = "export it again; the file is empty if the image has no objects"
                raise InputError(text, "the image has no annotation", fix, case)
            shapes = _shapes(text, len(classes))
        except InputError as problem:
            report(problem.of(case))
            continue
        split = "test" if part == "test" else "train"
        cases.append(Case(case, (image,), split=split, annotation=text, annotate=shapes))
        parts[part].append(case)
    folds = ({part: tuple(ids) for part, ids in parts.items()},) if parts["train"] and parts["val"] else None
    _, channels = pictures_layout(case.channels[0] for case in cases)
    return Dataset(path, path.resolve().name, 2, classes, channels, tuple(cases), folds)


def _check_there(file: Path, head: Path) -> None:
    if not file.exists():
        raise InputError(head, f"{file.name!r} is not in its folder", "export it again, or correct its name")


def _shapes(file: Path, num_classes: int) -> Shapes:
    shapes = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        label, *values = numbers(line.split(), file, f"line {number}", 5)
        if label != int(label) or not 0 <= label < num_classes:
            problem = f"line {number}: class {label:g} but obj.names lists {num_classes}"
            raise InputError(file, problem, "number the classes from 0, in the order of obj.names")
        x, y, width, height = values
        if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
            raise InputError(file, f"line {number} is {line[:60]!r}", "write fractions from 0 to 1")
        lower, upper = (y - height / 2, x - width / 2), (y + height / 2, x + width / 2)
        shapes.append(Shape(int(label), (lower, upper), frame="fraction"))
    return Shapes(tuple(shapes))


register_format(
    "cvat_yolo", detect, read, "CVAT's YOLO 1.1: obj.data, obj.names, train.txt, obj_train_data/", Options, order=78
)
