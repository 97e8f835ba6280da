"""BUSI, breast ultrasound images: a folder per class, and binary masks beside the pictures.

    benign/benign (1).png      the picture
    benign/benign (1)_mask.png, benign (1)_mask_1.png    one lesion each
    normal/normal (1).png      without lesions; its mask is empty

The classes are the names of the folders, except that of the images without lesions, `normal`. Folders of other names
may be patients, sites or parts of a split: they are classes only with `--format busi`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import MaskFiles
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import pictures_layout
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.io import read_label_map, split_suffix
from boxel.types import Geometry, Instances

__all__ = ["Options", "detect", "read"]

NORMAL = "normal"
LESIONS = ("benign", "malignant")
SUFFIX = "_mask"


class Options(ReaderOptions):
    """`classes`: names of the folders with lesions in order; alphabetical if empty."""

    classes: Names = ()


@dataclass(frozen=True)
class EmptyMasks(MaskFiles):
    """The masks of an image without lesions; one with an object contradicts its folder and is an error."""

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        for path in self.paths:
            if read_label_map(path).array.any():
                problem = f"this mask has an object, but the folder {NORMAL} is for images without lesions"
                raise InputError(
                    path, problem, "move it and its image to the folder of their class, or set the mask to 0"
                )
        return super().read(geometry)


def detect(path: Path) -> bool:
    names = {folder.name.lower() for folder in _folders(path) if _masks(folder)}
    return bool(names & set(LESIONS)) and names <= {NORMAL, *LESIONS}


def _folders(path: Path) -> Iterator[Path]:
    return (folder for folder in listing(path) if folder.is_dir())


def _masks(folder: Path) -> list[Path]:
    """Masks whose picture lies beside them, as `a_mask.png` beside `a.png`."""
    files = [file for file in listing(folder) if split_suffix(file)[1]]
    stems = {split_suffix(file)[0] for file in files}
    return [file for file in files if _picture(file) in stems]


def _pictures(folder: Path) -> list[Path]:
    masks = _masks(folder)
    return [file for file in listing(folder) if split_suffix(file)[1] and file not in masks]


def _picture(mask: Path) -> str:
    """The stem of the picture that a mask belongs to; empty if it is none."""
    head, found, tail = split_suffix(mask)[0].rpartition(SUFFIX)
    return head if found and tail.lstrip("_").isdecimal() | (not tail) else ""


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    folders = [folder for folder in _folders(path) if _pictures(folder)]
    for folder in (folder for folder in folders if not _masks(folder)):
        files = [file.name for file in _pictures(folder)]
        fix = f"add NAME{SUFFIX}.png for each, all zero for images without objects, or move the folder elsewhere"
        report(InputError(folder, f"no image of this folder has a mask: {some(files)}", fix))
    lesions = [folder.name for folder in folders if folder.name.lower() != NORMAL]
    classes = options.classes or tuple(lesions)
    cases = []
    for folder in folders:
        masks = _masks(folder)
        if folder.name.lower() != NORMAL and folder.name not in classes:
            raise InputError(folder, f"unknown class {folder.name!r}", f"use one of {', '.join(classes)}")
        label = classes.index(folder.name) if folder.name in classes else 0
        for picture in _pictures(folder) if masks else ():
            case = split_suffix(picture)[0]
            mine = tuple(mask for mask in masks if _picture(mask) == case)
            if not mine:
                fix = f"add {case}{SUFFIX}{picture.suffix}, all zero if the image has no objects"
                report(InputError(picture, "the image has no mask", fix, case))
                continue
            kind = EmptyMasks if folder.name.lower() == NORMAL else MaskFiles
            cases.append(Case(case, (picture,), annotate=kind(mine, (label,) * len(mine))))
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    return Dataset(path, path.resolve().name, ndim, classes or ("lesion",), channels, tuple(cases))


register_format(
    "busi", detect, read, "BUSI: benign/NAME.png and benign/NAME_mask.png, a folder per class", Options, order=100
)
