"""RSNA Pneumonia Detection Challenge (Kaggle, 2018): DICOM radiographs and a table of boxes.

    stage_2_train_labels.csv                 patientId,x,y,width,height,Target: a row per box, or one without a box
    stage_2_train_images/PATIENT.dcm         or PNG
    stage_2_detailed_class_info.csv          optional, not used

Images without a row in the table, such as those of the test set, are not annotated and left out.
"""

from collections import defaultdict
from pathlib import Path

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.radiographs import RadiographOpener, corners, find_radiographs, the_radiograph
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.table_values import parts_by_case
from boxel.datasets.formats.text_kinds import has_columns, texts_in
from boxel.datasets.problems import InputError, Report
from boxel.inputs.tables import is_empty, read_table

__all__ = ["Options", "detect", "read"]

COLUMNS = ("patientId", "x", "y", "width", "height", "Target")
DESCRIPTION = "RSNA pneumonia: a CSV with patientId,x,y,width,height,Target and DICOM images"
_has_boxes = has_columns(*COLUMNS)


class Options(ReaderOptions):
    """`name`: of the one class."""

    name: str = "pneumonia"


def detect(path: Path) -> bool:
    return _table(path) is not None


def _table(path: Path) -> Path | None:
    return next(iter(texts_in(path, (".csv",), _has_boxes)), None)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or table) `path`; problems of single cases go to `report`."""
    table = _table(path) or path
    folder = table.parent
    shapes: dict[str, list[Shape]] = defaultdict(list)
    negative: set[str] = set()
    rows = read_table(table, COLUMNS, report)
    parts = parts_by_case(rows, "patientId", table, report)
    for row in rows:
        mine = shapes[row["patientId"]]
        boxed, positive = not is_empty(row["x"]), row["Target"].strip() in ("1", "1.0")
        if boxed != positive:
            problem = f"line {row.line}: Target is {row['Target']!r} {'with' if boxed else 'without'} a box"
            raise InputError(table, problem, "write Target 1 with a box, or 0 without")
        if boxed:
            x, y, width, height = numbers([row[key] for key in COLUMNS[1:5]], table, f"line {row.line}", 4)
            if min(width, height) <= 0:
                raise InputError(
                    table, f"line {row.line}: the box measures {width:g} x {height:g}", "correct or remove it"
                )
            lower, upper = corners((x, y, x + width, y + height)).tolist()
            mine.append(Shape(0, (tuple(lower), tuple(upper))))
        else:
            negative.add(row["patientId"])
        if mine and row["patientId"] in negative:
            problem = f"line {row.line}: patient {row['patientId']} has rows with Target 0 and with Target 1"
            raise InputError(table, problem, "remove the wrong ones", row["patientId"])
    images = find_radiographs(folder, ("train", "image", "dicom"))
    cases = []
    for case, drawn in shapes.items():
        try:
            image = the_radiograph(images.get(case, ()), table, case)
        except InputError as error:
            report(error)
            continue
        split = "test" if parts[case] == "test" else "train"
        annotate = Shapes(tuple(drawn))
        cases.append(Case(case, (image,), split=split, annotation=table, annotate=annotate, opener=RadiographOpener()))
    return Dataset(path, folder.resolve().name, 2, (options.name,), ("radiograph",), tuple(cases))


register_format("rsna_pneumonia", detect, read, DESCRIPTION, Options, order=104)
