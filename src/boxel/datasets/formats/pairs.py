"""Images and label maps that correspond by name.

    images/NAME.png  labels/NAME.png      also image, img and mask, masks, label, segmentations, nodule_mask ...
    a_raw.tif  a_instances.tif            or img3d.tif mask3d.tif, in one folder
    CASE/ct.nii.gz  CASE/seg.nii.gz       a folder per case; the image may be a DICOM folder, such as CASE/dicom/
    meta.csv                              optional: columns file (or id), patient_id, split, and any column of classes
    class_names.json                      optional: {"1": "liver"}; the label maps then show classes, not instances

A label map may be stored with its axes permuted or flipped, if its header says so.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxel.datasets.annotations import LabelMapFile
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import images_in, listing, named_numbers, pictures_layout, read_mapping, read_table
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.label_maps import Connectivity
from boxel.datasets.problems import InputError, Report, some
from boxel.io import read_layout, split_suffix

__all__ = ["Options", "detect", "read"]

IMAGE, LABELS = "images?|imgs?|raw|ct|mri?|dicom", "instances|labels?|masks?|segs?|segmentations?"


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        values: whether the values of a label map are instances, or classes whose components are instances; "auto" means
            classes if there is a class_names.json.
        classes: name of the class of instances, or names of the classes 1, 2, ...
        class_column: column of meta.csv with the class of all objects of a case.
        group_column: column of meta.csv with the patient.
        ndim: number of axes of the images to use, if a folder holds several kinds; 0 uses the most frequent one.
        connectivity: voxels are connected if they share a face, an edge or a corner.
        min_size: smaller components are left out (voxels).
        modality: name of the image channel, such as CT.
    """

    values: Literal["auto", "instances", "classes"] = "auto"
    classes: Names = ()
    class_column: str = ""
    group_column: str = ""
    ndim: int = 0
    connectivity: Connectivity = "corner"
    min_size: int = 1
    modality: str = ""


class _Pair(NamedTuple):
    image: Path
    labels: Path


def detect(path: Path) -> bool:
    return path.is_dir() and bool(_pairs(path))


def _pairs(path: Path) -> dict[str, _Pair]:
    """The pairs by case name, in `path` and in its folders."""
    pairs = _sibling_folders(path)
    for folder in () if pairs else (path, *filter(Path.is_dir, listing(path))):
        prefix = f"{folder.name}_" if folder != path else ""
        inner = _same_folder(folder)
        lone = len(inner) == 1 and "" in inner
        pairs.update({folder.name if lone else prefix + name: pair for name, pair in inner.items()})
    return pairs


def _sibling_folders(path: Path) -> dict[str, _Pair]:
    folders = [folder for folder in listing(path) if folder.is_dir()]
    images = next((f for f in folders if re.fullmatch(f"(.*_)?({IMAGE})", f.name.lower())), None)
    labels = next((f for f in folders if re.fullmatch(f"(.*_)?({LABELS})", f.name.lower())), None)
    if images is None or labels is None:
        return {}
    maps = images_in(labels)
    return {name: _Pair(image, maps.get(name, labels / image.name)) for name, image in images_in(images).items()}


def _same_folder(folder: Path) -> dict[str, _Pair]:
    images: dict[str, Path] = {}
    maps: dict[str, Path] = {}
    for path in listing(folder):
        stem = split_suffix(path)[0].lower() if split_suffix(path)[1] else path.name.lower() if path.is_dir() else ""
        for words, into in ((IMAGE, images), (LABELS, maps)):
            match = re.fullmatch(rf"(?:{words})[_-]?(?P<a>.*)|(?P<b>.+)[_-](?:{words})", stem)
            if match:
                into[match["a"] or match["b"] or ""] = path
    return {
        name: _Pair(images[name], maps[name]) for name in sorted(images.keys() & maps.keys()) if maps[name].is_file()
    }


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    pairs = _of_one_rank(path, _pairs(path), options.ndim, report)
    rows = _rows(path, tuple(filter(None, (options.class_column, options.group_column))))
    names = _class_names(path)
    components = options.values == "classes" or (options.values == "auto" and bool(names))
    if components:
        if not (names or options.classes):
            raise InputError(path, "the classes have no names", "add --option classes=FIRST,SECOND")
        names = names or dict(enumerate(options.classes, start=1))
        classes = tuple(names[value] for value in sorted(names))
        lookup: dict[int, int] | None = {value: index for index, value in enumerate(sorted(names))}
    else:
        classes, lookup = options.classes or ("object",), None
    by_column = sorted({row[options.class_column] for row in rows.values()}) if options.class_column else []
    if by_column:
        classes = options.classes or tuple(f"{options.class_column} {value}" for value in by_column)
    cases = []
    for name, (image, labels) in pairs.items():
        row = rows.get(name, {})
        if not labels.exists():
            report(InputError(labels, "missing label map", "add it, all zero if the image has no objects", name))
            continue
        if by_column and not row:
            report(
                InputError(path / "meta.csv", f"no row for {name}", f"add one with its {options.class_column}", name)
            )
            continue
        index = by_column.index(row[options.class_column]) if by_column else 0
        annotate = LabelMapFile(labels, lookup, components, options.connectivity, options.min_size, index)
        group = row.get(options.group_column or "patient_id", "")
        split = "test" if row.get("split") == "test" else "train"
        cases.append(Case(name, (image,), group=group, split=split, annotate=annotate))
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    channels = (options.modality,) if options.modality else channels
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases))


def _of_one_rank(path: Path, pairs: dict[str, _Pair], ndim: int, report: Report) -> dict[str, _Pair]:
    ranks: dict[str, int] = {}
    for name, pair in pairs.items():
        try:
            ranks[name] = 3 if pair.image.is_dir() else len(read_layout(pair.image)[1])
        except ValueError as error:
            report(InputError(pair.image, str(error).removeprefix(f"{pair.image}: "), "or remove it", name))
    ndim = ndim or (Counter(ranks.values()).most_common(1)[0][0] if ranks else 2)
    others = [name for name, rank in ranks.items() if rank != ndim]
    if others:
        problem = f"{len(others)} of {len(pairs)} images do not have {ndim} axes and are left out: {some(others)}"
        report(InputError(path, problem, "use them instead with --option ndim=2 or ndim=3", severity="warning"))
    return {name: pairs[name] for name, rank in ranks.items() if rank == ndim}


def _rows(path: Path, columns: tuple[str, ...]) -> dict[str, dict[str, str]]:
    table = path / "meta.csv"
    rows = read_table(table, columns) if columns or table.exists() else []
    key = next((key for key in ("file", "id", "case", "name") if rows and key in rows[0]), "")
    return {split_suffix(Path(row[key]))[0] or row[key]: row for row in rows} if key else {}


def _class_names(path: Path) -> Mapping[int, str]:
    file = path / "class_names.json"
    values: Any = read_mapping(file) if file.exists() else {}
    if isinstance(values, dict) and values and all(isinstance(value, dict) for value in values.values()):
        values = next(iter(values.values()))  # one table per modality: use the first
    return dict(named_numbers(values))


register_format(
    "pairs",
    detect,
    read,
    "images and label maps of like names: images/NAME and labels/NAME, or CASE/ct and CASE/seg",
    Options,
    order=120,
)
