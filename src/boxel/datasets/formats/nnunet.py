"""nnU-Net v2 (and v1) and the Medical Segmentation Decathlon: one label map of classes per case.

    dataset.json              nnU-Net v2: "channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}
                              MSD: "modality": {"0": "CT"}, "labels": {"0": "background", "1": "lesion"}
    imagesTr/CASE_0000.nii.gz nnU-Net, one file per channel; MSD: imagesTr/CASE.nii.gz,
                              which may hold several channels on a fourth axis
    labelsTr/CASE.nii.gz      0 is background, other values are classes
    imagesTr/CASE.json        optional, beside a TIFF: {"spacing": [2.0, 0.7, 0.7]}
    imagesTs/ labelsTs/       the test cases

Every connected component of a class becomes an object. Without dataset.json the classes are the values that occur in
the label maps. `one_class` makes objects of all classes together, such as an organ given by its parts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from boxel.datasets.annotations import LabelMapFile
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import images_in, named_numbers, pictures_layout
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.label_maps import Connectivity
from boxel.datasets.names import as_id, split_word
from boxel.datasets.parallel import parallel
from boxel.datasets.problems import InputError, Report, as_input_error, some
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_mapping
from boxel.io import read_label_map
from boxel.io.channels import group_channels, in_order, split_channel
from boxel.types import silent
from boxel.wording import counted

__all__ = ["Options", "detect", "find_classes", "read"]

FOREIGN = ("channel_names", "file_ending", "modality", "numTraining", "training")


class Options(ReaderOptions):
    """How classes become objects.

    Attributes:
        connectivity: voxels of one class are connected if they share a face, an edge or a corner.
        min_size: smaller components are left out (voxels).
        classes: names of the classes 1, 2, ..., if there is no dataset.json.
        one_class: name of a single class that all others are merged into, before components are found.
    """

    connectivity: Connectivity = "corner"
    min_size: NonNegativeInt = 1
    classes: Names = ()
    one_class: str = ""


def detect(path: Path) -> bool:
    if not (path / "imagesTr").is_dir() or not (path / "labelsTr").is_dir():
        return False
    try:
        head = read_mapping(path / "dataset.json")
    except ValueError:
        files = listing(path / "labelsTr")
        return not (path / "dataset.json").exists() and not any(file.suffix == ".json" for file in files)
    if not isinstance(head, dict):
        return False
    labels = head.get("labels")
    return any(key in head for key in FOREIGN) or (
        isinstance(labels, dict) and "background" in [*labels, *labels.values()]
    )


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    head = path / "dataset.json"
    values = read_mapping(head, report) if head.exists() else {}
    if not isinstance(values, dict):
        raise InputError(head, "not a JSON object", 'write {"channel_names": ..., "labels": ...}')
    channels = tuple(
        name for _, name in sorted(named_numbers(_first(values, "channel_names", "modality", "modalities")))
    )
    values_of = _classes(head, values, report) if head.exists() else find_classes(path / "labelsTr", options, report)
    others = _ignored(values.get("labels"))
    ending = str(values.get("file_ending") or "")
    common = (values_of, others, ending, len(channels), options)
    cases = [case for part in ("Tr", "Ts") for case in _part(path, part, *common, report)]
    _report_other_parts(path, report)
    if not cases:
        raise InputError(
            path / "imagesTr", "no image with a label map", "name both alike: imagesTr/CASE_0000, labelsTr/CASE"
        )
    claimed, given = values.get("numTraining"), len(images_in(path / "labelsTr", ending))
    if isinstance(claimed, int) and claimed != given:
        problem = f'"numTraining" is {claimed}, but labelsTr has {counted(given, "label map")}'
        report(InputError(head, problem, "add the missing cases, or correct the number", severity="warning"))
    ndim, from_image = pictures_layout(case.channels[0] for case in cases)
    several = tuple(f"channel {i}" for i in range(len(cases[0].channels)))
    channels = channels or (several if several[1:] else from_image)
    name = str(values.get("name") or path.resolve().name)
    classes = (options.one_class,) if options.one_class else tuple(values_of.values())
    return Dataset(path, name, ndim, classes, channels, tuple(cases))


def _report_other_parts(path: Path, report: Report) -> None:
    """Say which folders of label maps, such as labelsVal, nnU-Net does not know."""
    for folder in listing(path):
        part = folder.name.removeprefix("labels")
        maps = images_in(folder) if part != folder.name and split_word(part) else ()
        if maps:
            problem = f"images{part} and {folder.name} ({counted(len(maps), 'label map')}) are not used"
            fix = "move the files to imagesTr and labelsTr (imagesTs and labelsTs if they are test cases)"
            fix += "; list validation cases in a splits_final.json"
            report(InputError(folder, problem, fix, severity="warning"))


def _first(values: Mapping[str, Any], *keys: str) -> Any:
    return next((values[key] for key in keys if key in values), None)


def _classes(head: Path, values: Mapping[str, Any], report: Report) -> dict[int, str]:
    """The class names by their values in the label maps, without the background."""
    labels = values.get("labels")
    if isinstance(labels, dict):
        labels = {name: _number(name, value) for name, value in labels.items()}
    if isinstance(labels, dict) and any(isinstance(value, list) for value in labels.values()):
        raise InputError(
            head,
            '"labels" has nnU-Net regions (several values under one name)',
            "write one value for each class of objects",
        )
    names = {value: name for value, name in sorted(named_numbers(labels)) if value > 0}
    ignored = [value for value, name in names.items() if name.lower() == "ignore"]
    for value in ignored:
        problem = f'label {value} is "ignore", and its voxels are treated as background'
        report(InputError(head, problem, "nothing to do if this is intended", severity="note"))
    names = {value: name for value, name in names.items() if value not in ignored}
    if not names:
        raise InputError(head, f'"labels" is {labels!r}', 'write "labels": {"background": 0, "lesion": 1}')
    return names


def _ignored(labels: Any) -> frozenset[int]:
    """The values whose voxels are not annotated, by the name "ignore"."""
    given = labels.items() if isinstance(labels, dict) else ()
    named = [*given, *((value, name) for name, value in given)]
    return frozenset(
        number
        for name, value in named
        if str(name).lower() == "ignore" and isinstance(number := _number(str(name), value), int)
    )


def _number(name: str, value: Any) -> Any:
    """The value of a class: `"lesion": "1"` and `"lesion": [1]` are 1; `"1": "lesion"` stays."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    number = None if name.strip().isdecimal() else as_id(value)
    return number if isinstance(number, int) else value


def find_classes(folder: Path, options: Options, report: Report) -> dict[int, str]:
    """The classes by their values: those named from 1, or the values that occur in the label maps of `folder`."""
    if options.classes:
        return dict(enumerate(options.classes, start=1))

    def values(path: Path) -> set[int]:
        try:
            return set(np.unique(read_label_map(path).array).tolist())
        except ValueError:  # reported when the case is read
            return set()

    present = set().union(*parallel(values, images_in(folder).values(), None, silent, "")) - {0}
    if not present:
        raise InputError(folder, "all label maps are empty", "check that these are label maps of classes")
    if not options.one_class:
        problem = f"no dataset.json; the label maps show the classes {some(present)}"
        report(InputError(folder, problem, "name them with --option classes=FIRST,SECOND", severity="note"))
    return {value: f"class {value}" for value in sorted(present)}


def _part(
    path: Path,
    part: str,
    names: Mapping[int, str],
    others: frozenset[int],
    ending: str,
    num_channels: int,
    options: Options,
    report: Report,
) -> list[Case]:
    labels = images_in(path / f"labels{part}", ending)
    channels_of = group_channels(images_in(path / f"images{part}", ending).values(), labels)
    for stem in sorted(labels.keys() - channels_of.keys()):
        report(
            InputError(labels[stem], "the annotation has no image", f"add images{part}/{stem}_0000, or remove it", stem)
        )
    most = max(map(len, channels_of.values()), default=1)
    wanted = range(max(num_channels, most) if most > 1 else 1)  # one file may have several channels
    cases = []
    for case, channels in sorted(channels_of.items()):
        try:
            files = in_order(channels)
        except ValueError as error:
            report(as_input_error(error, case))
            continue
        if case not in labels:
            if part == "Tr":
                fix = f"add labels{part}/{case}, all zero if the image has no objects"
                report(InputError(files[0], "the image has no label map", fix, case))
            continue
        whole = len(files) == 1 and split_channel(files[0])[1] is None
        missing = [number for number in wanted if number not in channels and not whole]
        if missing:
            problem = f"channel {missing[0]} of this case is missing: it has {', '.join(file.name for file in files)}"
            report(InputError(files[0], problem, f"add {case}_{missing[0]:04d}, or remove the case", case))
            continue
        if num_channels and len(files) > num_channels:
            problem = f"this case has {len(files)} files, but dataset.json lists {counted(num_channels, 'channel')}"
            report(InputError(files[0], problem, f"name the files of a case _0000 to _{num_channels - 1:04d}", case))
            continue
        classes = {value: 0 if options.one_class else index for index, value in enumerate(names)}
        annotate = LabelMapFile(
            labels[case], classes, True, options.connectivity, options.min_size, known=others | names.keys()
        )
        split = "train" if part == "Tr" else "test"
        cases.append(Case(case, files, split=split, annotate=annotate))
    return cases


register_format(
    "nnunet",
    detect,
    read,
    "nnU-Net or Medical Segmentation Decathlon: imagesTr, labelsTr with label maps of classes, dataset.json",
    Options,
    order=30,
)
