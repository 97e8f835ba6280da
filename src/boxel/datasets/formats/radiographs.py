"""Where the tables of chest X-ray challenges find their radiographs, and how these are opened."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import Opener
from boxel.datasets.lookup import DICOM
from boxel.datasets.names import below, split_word
from boxel.datasets.problems import InputError, some
from boxel.inputs.folders import listing
from boxel.io import read_image, split_suffix
from boxel.types import Geometry, Image

__all__ = ["RadiographOpener", "corners", "find_radiographs", "the_radiograph"]


@dataclass(frozen=True)
class RadiographOpener(Opener):
    """Opens a DICOM radiograph as an image of two axes; other files are opened as usual."""

    def read(self, path: Path) -> Image:
        image = read_image(path)
        if len(image.geometry.shape) == 2:
            return image
        if image.geometry.shape[0] != 1:
            raise ValueError(f"{path}: {image.geometry.shape[0]} frames; a radiograph has one: remove the others")
        shape, spacing = image.geometry.shape[1:], image.geometry.spacing[1:]
        return replace(image, array=image.array[:, 0], geometry=Geometry.plain(shape, spacing))


def find_radiographs(path: Path, words: tuple[str, ...]) -> Mapping[str, Sequence[Path]]:
    """The images by the stems of their files: those in folders whose name contains a word.

    The folder itself counts if it contains images.
    """
    folders = [folder for folder in listing(path) if folder.is_dir() and any(w in folder.name.lower() for w in words)]
    images: dict[str, list[Path]] = defaultdict(list)
    for folder in [path, *folders]:
        for file in listing(folder):
            suffix = split_suffix(file)[1] or (file.suffix if file.suffix.lower() in DICOM else "")
            if suffix and file.is_file():
                images[file.name[: -len(suffix)]].append(file)
    return images


def the_radiograph(candidates: Sequence[Path], table: Path, case: str) -> Path:
    """The image of a case: of several, the one in a folder of the part that the table is called after.

    Raises:
        ValueError: there is none, or more than one.
    """
    part = split_word(table.stem)
    own = [file for file in candidates if part and split_word(file.parent.name) == part] or candidates
    if not own:
        raise InputError(table, f"image {case} does not exist", f"add {case}.dcm to {table.parent}", case)
    if len(own) > 1:
        listed = some(str(below(file, table.parent)) for file in own)
        raise InputError(table, f"image {case} may be any of {listed}", "keep the right one of them", case)
    return own[0]


def corners(values: tuple[float, ...]) -> np.ndarray:
    """Lower and upper corner (row, column) from x0, y0, x1, y1."""
    x0, y0, x1, y1 = values
    return np.array([[y0, x0], [y1, x1]])
