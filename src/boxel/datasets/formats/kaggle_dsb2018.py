"""Kaggle Data Science Bowl 2018: a folder per picture, a file per nucleus.

    ID/images/ID.png
    ID/masks/*.png    one binary mask per object

The folders may lie under stage1_train/. There is one class; `--option classes=NAME` names it.
"""

from pathlib import Path

from boxel.datasets.annotations import MaskFiles
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import images_in, listing, pictures_layout
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report

__all__ = ["Options", "detect", "read"]


class Options(ReaderOptions):
    """`classes`: the name of the one class."""

    classes: Names = ("nucleus",)


def detect(path: Path) -> bool:
    return any((folder / "images").is_dir() and (folder / "masks").is_dir() for folder in listing(path))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    cases = []
    for folder in listing(path):
        images, masks = images_in(folder / "images"), tuple(images_in(folder / "masks").values())
        if not folder.is_dir():
            continue
        if len(images) != 1:
            fix = f"keep one image in {folder / 'images'}"
            report(InputError(folder, f"{len(images)} images instead of one", fix, folder.name))
        elif not (folder / "masks").is_dir():
            problem = InputError(
                folder, "there is no folder masks", "add it; leave it empty if the image has no objects", folder.name
            )
            report(problem)
        else:
            annotate = MaskFiles(masks, (0,) * len(masks))
            cases.append(Case(folder.name, tuple(images.values()), annotate=annotate))
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    return Dataset(path, path.resolve().name, ndim, options.classes[:1], channels, tuple(cases))


register_format(
    "kaggle_dsb2018",
    detect,
    read,
    "Kaggle Data Science Bowl 2018: ID/images/ID.png and ID/masks/*.png",
    Options,
    order=70,
)
