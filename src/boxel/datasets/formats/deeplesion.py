"""DeepLesion: key slices of CT as 16-bit PNG with RECIST diameters.

    DL_info.csv                18 columns, one lesion per row (any DL_info*.csv)
    Images_png/SERIES/NNN.png  16 bits, HU = value - 32768

The official split is used (1 training, 2 validation, 3 test); patients are groups. Lesions marked as possibly noisy are
left out. Diameters (mm) are stored as attributes. With `context` the neighbouring slices are channels. The types are
known in the official validation and test parts only; they are -1 in its training part.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from boxel.datasets.annotations import Opener, Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.table_columns import identity
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing
from boxel.inputs.tables import read_table
from boxel.io import read_image
from boxel.ranges import Context
from boxel.types import Geometry, Image
from boxel.wording import counted

__all__ = ["Options", "detect", "read"]

DESCRIPTION = "DeepLesion: DL_info.csv and Images_png/SERIES/NNN.png"
TYPES = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis", "unknown")
COLUMNS = ("File_name", "Bounding_boxes", "Measurement_coordinates", "Coarse_lesion_type", "Train_Val_Test")
PARTS = {"1": "train", "2": "val", "3": "test"}


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        classes: one class `lesion`, or the coarse lesion types; `known_type`: the eight types without `unknown`, whose
            lesions are left out.
        boxes: the boxes of the table (with a margin of 5 pixels), or the hull of the RECIST diameters.
        context: neighbouring slices on either side, as further channels; a missing one is replaced by the nearest.
        noisy: whether to keep lesions marked as possibly noisy.
        window: `row`: each slice is clipped to its window in `DICOM_windows`, and mapped to 0..255, as it was shown to
            the radiologist; the channels are then called `window` instead of `CT`. `none`: Hounsfield units.
    """

    classes: Literal["lesion", "type", "known_type"] = "lesion"
    boxes: Literal["table", "recist"] = "table"
    context: Context = 0
    noisy: bool = False
    window: Literal["none", "row"] = "none"


@dataclass(frozen=True)
class Hounsfield(Opener):
    """Opens a 16-bit PNG whose 0 means -32768 HU; `spacing` in mm.

    Attributes:
        window: HU that become 0 and 255; None keeps Hounsfield units.
    """

    spacing: tuple[float, float]
    window: tuple[float, float] | None = None

    def read(self, path: Path) -> Image:
        image = read_image(path)
        if image.array.dtype.itemsize < 2:
            raise InputError(
                path, "the image has 8 bits", "use the 16-bit PNG of Images_png, whose values are HU + 32768"
            )
        geometry, units = Geometry.plain(image.geometry.shape, self.spacing), image.array.astype(np.int32) - 32768
        if self.window is None:
            return Image(units, geometry)
        low, high = self.window
        return Image(((units.clip(low, high) - low) * (255 / (high - low))).astype(np.float32), geometry)


def detect(path: Path) -> bool:
    return bool(_tables(path))


def _tables(path: Path) -> list[Path]:
    return [file for file in listing(path) if re.fullmatch(r"DL_info.*\.csv", file.name)]


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    tables = _tables(path)
    if not tables:
        raise InputError(path, "there is no DL_info.csv", f"give the folder with {DESCRIPTION.partition(': ')[2]}")
    rows = {(row["File_name"], row["Bounding_boxes"]): (row, t) for t in tables for row in read_table(t, COLUMNS)}
    lesions: dict[str, list[tuple[dict[str, str], Path]]] = defaultdict(list)
    noisy = untyped = 0
    for row, table in rows.values():
        noisy += row.get("Possibly_noisy") == "1"
        if row.get("Possibly_noisy") == "1" and not options.noisy:
            continue
        if options.classes == "known_type" and _is_unknown(row, table):
            untyped += 1
        else:
            lesions[row["File_name"]].append((row, table))
    if noisy and not options.noisy:
        problem = f"{counted(noisy, 'lesion is', 'lesions are')} marked as possibly noisy and left out"
        report(InputError(tables[0], problem, "keep them with --option noisy=true", severity="note"))
    if untyped:
        problem = f"{counted(untyped, 'lesion is', 'lesions are')} left out because the type is not known"
        report(InputError(tables[0], problem, "keep them with --option classes=type", severity="note"))
    if not lesions and untyped:
        problem = "no lesion has a type, so classes=known_type leaves none"
        raise InputError(tables[0], problem, "give the official validation and test parts, or use classes=lesion")
    cases, parts, missing = [], defaultdict(list), 0
    for name, entries in sorted(lesions.items()):
        series, _, slice_name = name.rpartition("_")
        image = path / "Images_png" / series / slice_name
        if not os.path.exists(image):  # also if the name is too long
            missing += 1
            continue
        case = Path(name).stem
        try:
            cases.append(_case(case, image, entries, options, report))
        except InputError as wrong:
            report(wrong.of(case))
            continue
        parts[_part(*entries[0])].append(case)
    if missing:
        problem = (
            f"{missing} of {counted(len(lesions), 'key slice')} {'is' if missing == 1 else 'are'} not in Images_png"
        )
        report(InputError(tables[0], problem, "add them, or continue with the others", severity="warning"))
    folds = ({part: tuple(parts[part]) for part in PARTS.values()},) if parts["train"] and parts["val"] else None
    name = "CT" if options.window == "none" else "window"
    channels = tuple(f"{name}{k:+d}" if k else name for k in range(-options.context, options.context + 1))
    classes = {"lesion": ("lesion",), "type": TYPES, "known_type": TYPES[:-1]}[options.classes]
    return Dataset(path, path.resolve().name, 2, classes, channels, tuple(cases), folds)


def _case(case: str, image: Path, entries: list[tuple[dict[str, str], Path]], options: Options, report: Report) -> Case:
    shapes, attributes = [], {}
    first, table = entries[0]
    spacing = numbers(first.get("Spacing_mm_px_", ""), table, f"Spacing_mm_px_ of {case}", 3)[:2]
    for row, file in entries:
        column, count = ("Bounding_boxes", 4) if options.boxes == "table" else ("Measurement_coordinates", 8)
        corners = np.array(numbers(row[column], file, f"{column} of {case}", count)).reshape(-1, 2)[:, ::-1]
        if not (np.ptp(corners, axis=0) > 0).all():
            problem = f"{column} {row[column]} of {case} has no extent; the lesion is left out"
            report(InputError(file, problem, "correct it", case, "warning"))
            continue
        label = 0
        if options.classes != "lesion":
            kind = _kind(row, file)
            label = TYPES.index("unknown") if kind is None else kind
        shapes.append(Shape(label, tuple(map(tuple, corners.tolist()))))
        if row.get("Lesion_diameters_Pixel_"):
            long, short = numbers(row["Lesion_diameters_Pixel_"], file, f"Lesion_diameters_Pixel_ of {case}", 2)
            attributes[len(shapes)] = {"diameter_mm": long * spacing[0], "short_diameter_mm": short * spacing[0]}
    patient = first.get("Patient_index") or case.split("_")[0]
    split = "test" if _part(first, table) == "test" else "train"
    return Case(
        case,
        _slices(image, options.context),
        group=str(int(numbers([patient], table, f"Patient_index of {case}")[0])),
        split=split,
        annotation=table,
        annotate=Shapes(tuple(shapes)),
        opener=Hounsfield((spacing[1], spacing[0]), _window(first, table) if options.window == "row" else None),
        attributes=attributes,
    )


def _kind(row: Mapping[str, str], table: Path) -> int | None:
    """The index of a lesion's type in `TYPES`, or None if it is unknown (-1)."""
    what = f"Coarse_lesion_type of {row['File_name']}"
    kind = float(numbers([row["Coarse_lesion_type"]], table, what)[0])
    if kind not in (-1, *range(1, len(TYPES))):
        raise InputError(table, f"{what} is {row['Coarse_lesion_type']!r}", "write 1 to 8, or -1 for unknown")
    return None if kind == -1 else int(kind) - 1


def _is_unknown(row: Mapping[str, str], table: Path) -> bool:
    try:
        return _kind(row, table) is None
    except InputError:  # reported with its case
        return False


def _window(row: Mapping[str, str], table: Path) -> tuple[float, float]:
    what = f"DICOM_windows of {row['File_name']}"
    low, high = numbers(row.get("DICOM_windows", ""), table, what, 2)
    if low >= high:
        raise InputError(table, f"{what} is {row['DICOM_windows']!r}", "write the lower end first, such as -175, 275")
    return low, high


def _part(row: Mapping[str, str], table: Path) -> str:
    part = PARTS.get(identity(row["Train_Val_Test"]))
    if part is None:
        problem = f"Train_Val_Test of {row['File_name']} is {row['Train_Val_Test']!r}"
        raise InputError(table, problem, "write 1 (training), 2 (validation) or 3 (test)")
    return part


def _slices(image: Path, context: int) -> tuple[Path, ...]:
    """The key slice with its neighbours; a missing one is replaced by the nearest that exists."""
    chosen = [image]
    for step in (-1, 1):
        last = image
        for distance in range(1, context + 1):
            number = int(image.stem) + step * distance if image.stem.isdecimal() else -1
            neighbour = image.with_name(f"{number:03d}.png")
            last = neighbour if neighbour.exists() else last
            chosen = [last, *chosen] if step < 0 else [*chosen, last]
    return tuple(chosen)


register_format("deeplesion", detect, read, DESCRIPTION, Options, order=100)
