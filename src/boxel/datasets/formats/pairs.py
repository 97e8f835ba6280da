"""Images and label maps that correspond by name.

    images/NAME.png  labels/NAME.png      also image, img, scans, T1 and mask, masks, label, segmentations, ROI ...;
                                          NAME_mask, NAME_lesion and other names that begin like only one image's
    train/images  train/masks             a part of a split each, also val and test, and images/train  masks/train
    a_raw.tif  a_instances.tif            or img3d.tif mask3d.tif, in one folder
    CASE/ct.nii.gz  CASE/seg.nii.gz       a folder per case; the image may be a DICOM folder, such as CASE/dicom/;
                                          also FLAIR.nii.gz and lesions.nii.gz, and ct.nrrd with the
                                          Segmentation.seg.nrrd of 3D Slicer, which may be cropped
    CASE/  CASE_mask.nii.gz               DICOM series in folders, see `boxel.datasets.formats.pairs_dicom`
    sub-X/anat/  derivatives/             BIDS, see `boxel.datasets.formats.bids`
    meta.csv                              optional: columns file (or id), patient_id, split, and any column of classes
    class_names.json                      optional: {"1": "liver"}; the label maps then show classes, not instances

A label map may be stored with its axes permuted or flipped, if its header says so. If the label maps have one value, or
no other than 1 and 255, each connected component is an object. Segments of 3D Slicer that have names are classes.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeInt

from boxel.datasets.annotations import LabelMapFile
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.bids import bids_pairs
from boxel.datasets.formats.files import drawn_size, named_numbers, pictures_layout
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.pairs_dicom import dicom_pairs
from boxel.datasets.formats.pairs_folders import folders_of_parts, same_folder, sibling_folders
from boxel.datasets.formats.pairs_names import Words
from boxel.datasets.formats.pairs_table import classes_by_column, rows_by_case
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.table_columns import identity
from boxel.datasets.label_maps import Connectivity
from boxel.datasets.names import split_of_folders, split_word
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_mapping
from boxel.io import read_label_map, read_layout
from boxel.io.slicer import segment_classes
from boxel.wording import counted, counted_of

__all__ = ["Options", "detect", "read"]

BINARY = {1, 255}
FEW = 5  # values of label maps that may be classes although not every label map has them
SAME = 0.8  # share of the values that every label map has, if they may be more classes


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        values: whether the values of a label map are instances, or classes whose components are instances; "auto" means
            classes if there is a class_names.json, if `classes` names several without a `class_column`, or if the label
            maps have one value, or no other than 1 and 255.
        image: the name of the image in folders that hold several, such as FLAIR beside T1.
        images: folder of the images, if its name is none of the usual words.
        masks: folder of the label maps, or the word for them in the names of files, such as tumor.
        classes: name of the class of instances, or names of the classes 1, 2, ...
        class_column: column of meta.csv with the class of all objects of a case.
        class_from: two classes, of the cases whose number in `class_column` is below this one and of the others; if
            None, every value of the column is a class.
        group_column: column of meta.csv with the patient.
        ndim: number of axes of the images to use, if a folder holds several kinds; 0 uses the most frequent one.
        connectivity: voxels are connected if they share a face, an edge or a corner.
        min_size: smaller components are left out (voxels).
        modality: name of the image channel, such as CT.
    """

    values: Literal["auto", "instances", "classes"] = "auto"
    image: str = ""
    images: str = ""
    masks: str = ""
    classes: Names = ()
    class_column: str = ""
    class_from: float | None = None
    group_column: str = ""
    ndim: int = Field(0, ge=0, le=3)
    connectivity: Connectivity = "corner"
    min_size: NonNegativeInt = 1
    modality: str = ""


class _Pair(NamedTuple):
    image: Path
    labels: Path | None
    patient: str = ""
    split: str = ""


def detect(path: Path) -> bool:
    return path.is_dir() and any(pair.labels for pair in _pairs(path, lambda problem: None, Words()).values())


def _pairs(path: Path, report: Report, words: Words) -> dict[str, _Pair]:
    """The pairs by case name, in `path` and in its folders."""
    pairs = {name: _Pair(*found) for name, found in bids_pairs(path, report, words.image).items()}
    pairs = pairs or {name: _Pair(*found) for name, found in sibling_folders(path, report, words).items()}
    pairs = pairs or {name: _Pair(*found) for name, found in folders_of_parts(path, report, words).items()}
    alone: list[Path] = []
    unused: dict[Path, str] = {}
    several: list[str] = []
    for folder in () if pairs else (path, *filter(Path.is_dir, listing(path))):
        prefix = f"{folder.name}_" if folder != path else ""
        inner = same_folder(folder, report, words, alone, unused)
        lone = len(inner) == 1 and "" in inner
        several += [folder.name] * (folder != path and len(inner) > 1 and not split_word(folder.name))
        pairs.update({folder.name if lone else prefix + name: _Pair(*pair) for name, pair in inner.items()})
    if not pairs:
        return {name: _Pair(*found) for name, found in dicom_pairs(path, report, words).items()}
    holders = {pair.labels.parent for pair in pairs.values() if pair.labels}
    alone = [file for file in alone if file not in holders]  # the folder of a case may be called ct_1
    if len(several) > 1 and not (path / "meta.csv").exists():
        problem = f"the folders {some(several)} hold several cases each, but count neither as patients nor as classes"
        fix = "if they are patients, name them in meta.csv (columns id and patient_id); if classes, add --format busi"
        report(InputError(path, problem, fix, severity="note"))
    if unused:
        listed = some(str(file.relative_to(path)) for file in unused)
        problem = f"{counted(len(unused), 'file is', 'files are')} not used beside images and label maps: {listed}"
        fix = f"if they are label maps, choose with --option masks={next(iter(unused.values()))}, or join them into one"
        report(InputError(path, problem, fix, severity="warning"))
    if alone:
        listed = some(str(file.relative_to(path)) for file in alone)
        problem = f"{counted(len(alone), 'file is', 'files are')} not used without a counterpart: {listed}"
        fix = "add the image or the label map, all zero if the image has no objects"
        report(InputError(path, problem, fix, severity="warning"))
    return pairs


def _shared_values(paths: Sequence[Path]) -> list[set[int]]:
    """The values of each label map with objects; none if they only number objects.

    They may mean more if there are few, or if nearly all occur in every label map. Stops at the first that does not.
    """
    found: list[set[int]] = []
    for path in paths:
        try:
            values = set(np.unique(read_label_map(path).array).tolist()) - {0}
        except ValueError:
            continue  # reported when the case is read
        found += [values] if values else []
        known = set().union(*found)
        if len(known) > FEW and min(map(len, found)) < SAME * len(known):
            return []
    return found


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    words = Words(options.image, options.images, options.masks)
    problems: list[InputError] = []
    pairs = _pairs(path, problems.append, words)
    if not pairs and not problems:
        asked = f"masks={words.masks}: no folder and no file is called so; " if words.masks else ""
        problem = f"{asked}no image has a label map that corresponds by name"
        fix = "call the folders images and masks, and each label map like its image, or use --option images=FOLDER"
        raise InputError(path, problem, f"{fix} --option masks=FOLDER")
    for problem_of_file in problems:
        report(problem_of_file)
    pairs = _of_one_rank(path, pairs, options.ndim, report)
    table = path / "meta.csv"
    images = {name: pair.image for name, pair in pairs.items()}
    rows = rows_by_case(table, images, tuple(filter(None, (options.class_column, options.group_column))), report)
    names = _class_names(path, report)
    several = len(options.classes) > 1 and not options.class_column
    if several and options.values == "instances":
        problem = f"values=instances with {len(options.classes)} classes leaves open which object is of which class"
        raise InputError(path, problem, "use values=classes, or give one class, or add --option class_column=NAME")
    components = options.values == "classes" or (options.values == "auto" and (bool(names) or several))
    maps = list(dict.fromkeys(pair.labels for pair in pairs.values() if pair.labels))
    chosen = names or options.classes or options.class_column or options.values == "instances"
    segments = {} if chosen else segment_classes(maps)
    values = [] if components or segments or options.values == "instances" else _shared_values(maps)
    binary = set().union(*values)
    if any(len(own) > 1 for own in values) or not (len(binary) == 1 or binary <= BINARY):
        if len(values) > 1 and not options.class_column:
            problem = f"the label maps share the values {some(binary)}: each value in a map is taken as one object"
            named = json.dumps({str(value): f"class {value}" for value in sorted(binary)[:FEW]})
            counting = binary == set(range(1, len(binary) + 1))
            how = "add --option classes=FIRST,SECOND" if counting else f"name the values in class_names.json: {named}"
            fix = f"if they are classes, {how}; if they are not, add --option values=instances"
            report(InputError(path, problem, fix, severity="warning"))
        binary = set()
    lookup: dict[int, int] | None = None
    known: frozenset[int] | None = None
    if segments:
        components = True
        classes = tuple(sorted({name for own in segments.values() for name in own.values()}))
        problem = f"the names of segments are the classes: {', '.join(classes)}; each connected component is an object"
        report(InputError(path, problem, "with --option values=instances each segment is one object", severity="note"))
    elif binary:
        components = True
        problem = "the label maps have one value: each connected component is an object"
        report(InputError(path, problem, "with --option values=instances each map is one object", severity="note"))
        classes = options.classes[:1] or ("object",)
        lookup = dict.fromkeys(binary, 0)
    elif components:
        if not (names or options.classes):
            raise InputError(path, "the classes have no names", "add --option classes=FIRST,SECOND")
        names = names or dict(enumerate(options.classes, start=1))
        classes = tuple(names[value] for value in sorted(names))
        lookup = {value: index for index, value in enumerate(sorted(names))}
        known = frozenset(names)
    else:
        classes = options.classes or ("object",)
    classes_of, by_column = classes_by_column(table, rows, options.class_column, options.class_from)
    if by_column:
        if options.class_from is not None and len(options.classes) not in (0, 2):
            problem = f"class_from={options.class_from:g} makes 2 classes but classes names {len(options.classes)}"
            raise InputError(table, problem, "name the lower and the upper class, or leave classes out")
        classes = options.classes or by_column
    cases = []
    for name, (image, labels, patient, part) in pairs.items():
        row = rows.get(name, {})
        if labels is None:
            continue  # reported with the pairs
        if by_column and not row:
            report(InputError(table, f"no row for {name}", f"add one with its {options.class_column}", name))
            continue
        try:
            part = row.get("split") or part or split_of_folders(image, path)
        except InputError as problem_of_folders:
            report(problem_of_folders)
            continue
        index = classes_of.get(name, 0)
        mine = dict.fromkeys(binary, index) if binary else lookup
        mine = {value: classes.index(name) for value, name in segments[labels].items()} if segments else mine
        annotate = LabelMapFile(labels, mine, components, options.connectivity, options.min_size, index, known=known)
        group = identity(row.get(options.group_column or "patient_id", patient))
        split = "test" if part == "test" else "train"
        size = drawn_size(image, labels)
        cases.append(Case(name, (image,), group=group, split=split, annotate=annotate, declared=size))
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
        number = counted_of(len(others), len(pairs), "image", "is", "are")
        problem = f"{number} left out for not having {ndim} axes: {some(others)}"
        report(InputError(path, problem, "use them instead with --option ndim=2 or ndim=3", severity="warning"))
    return {name: pairs[name] for name, rank in ranks.items() if rank == ndim}


def _class_names(path: Path, report: Report) -> Mapping[int, str]:
    file = path / "class_names.json"
    values: Any = read_mapping(file, report) if file.exists() else {}
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
