"""Kaggle Data Science Bowl 2018: a folder per picture, a file per nucleus.

    ID/images/ID.png
    ID/masks/*.png    one binary mask per object

The folders may lie under stage1_train/. There is one class; `--option classes=NAME` names it.
"""

from pathlib import Path

from boxel.datasets.annotations import MaskFiles
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import drawn_size, pictures_layout
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.names import split_word
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing
from boxel.io import split_suffix

__all__ = ["Options", "detect", "read"]


class Options(ReaderOptions):
    """`classes`: the name of the one class."""

    classes: Names = ("nucleus",)


def detect(path: Path) -> bool:
    folders = [folder for folder in listing(path) if not split_word(folder.name)]  # train/images is a folder of many
    folders = [folder for folder in folders if (folder / "images").is_dir() and (folder / "masks").is_dir()]
    return any(_images_in(folder / "images") for folder in folders) and all(map(_holds_one_case, folders))


def _holds_one_case(folder: Path) -> bool:
    """Whether a folder has no image other than that of its name, and no mask of all objects, called like the image."""
    images = {split_suffix(file)[0] for file in _images_in(folder / "images")}
    return images <= {folder.name} and folder.name not in {split_suffix(f)[0] for f in _images_in(folder / "masks")}


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    cases = []
    for folder in listing(path):
        images, masks = _images_in(folder / "images"), _images_in(folder / "masks")
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
            size = drawn_size(images[0], masks[0]) if masks else None
            cases.append(Case(folder.name, images, annotate=annotate, declared=size))
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    return Dataset(path, path.resolve().name, ndim, options.classes[:1], channels, tuple(cases))


def _images_in(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in listing(folder) if split_suffix(path)[1] and path.is_file())


register_format(
    "kaggle_dsb2018",
    detect,
    read,
    "Kaggle Data Science Bowl 2018: ID/images/ID.png and ID/masks/*.png",
    Options,
    order=70,
)
