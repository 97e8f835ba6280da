"""ISIC skin lesion segmentation: pictures and binary masks in folders of their own.

    ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg
    ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png    0 and 255
    ISIC2018_Task1-2_Test_Input/, ISIC2018_Task1_Test_GroundTruth/       the test cases; Validation alike

Each mask shows one lesion. There is one class; `--option classes=NAME` names it.
"""

from pathlib import Path

from boxel.datasets.annotations import MaskFiles
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import pictures_layout
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.names import split_word
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing
from boxel.io import split_suffix

__all__ = ["Options", "detect", "read"]

SUFFIX = "_segmentation"


class Options(ReaderOptions):
    """`classes`: the name of the one class."""

    classes: Names = ("lesion",)


def detect(path: Path) -> bool:
    return bool(_masks(path))


def _masks(path: Path) -> dict[tuple[str, str], Path]:
    """The masks by their part and the stem of their picture."""
    return {
        (split_word(folder.name), split_suffix(file)[0].removesuffix(SUFFIX)): file
        for folder in listing(path)
        for file in listing(folder)
        if split_suffix(file)[0].startswith("ISIC") and split_suffix(file)[0].endswith(SUFFIX)
    }


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    masks = _masks(path)
    parts = {part for part, _ in masks}
    cases, ids = [], dict[str, list[str]](train=[], val=[], test=[])
    seen = set()
    for folder in listing(path):
        part = split_word(folder.name)
        pictures = [file for file in listing(folder) if split_suffix(file)[1] and file not in masks.values()]
        for picture in pictures if part in parts else ():
            case = split_suffix(picture)[0]
            if case.endswith("_superpixels"):
                continue
            mask = masks.get((part, case))
            if mask is None:
                report(InputError(picture, "the image has no mask", f"add {case}{SUFFIX}.png, or remove it", case))
                continue
            seen.add(mask)
            split = "test" if part == "test" else "train"
            cases.append(Case(case, (picture,), split=split, annotate=MaskFiles((mask,), (0,))))
            ids[part or "train"].append(case)
    for (_, stem), mask in masks.items():
        if mask not in seen:
            report(InputError(mask, "the mask has no image", f"add {stem}.jpg, or remove it", stem))
    folds = ({part: tuple(names) for part, names in ids.items()},) if ids["train"] and ids["val"] else None
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    return Dataset(path, path.resolve().name, ndim, options.classes[:1], channels, tuple(cases), folds)


register_format(
    "isic", detect, read, "ISIC: ISIC_0000000.jpg and ISIC_0000000_segmentation.png in two folders", Options, order=102
)
