"""Where the tables of chest X-ray challenges find their radiographs, and how these are opened."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import Opener
from boxel.datasets.formats.files import listing
from boxel.io import read_image, split_suffix
from boxel.types import Geometry, Image

__all__ = ["RadiographOpener", "find_radiographs"]

SUFFIXES = (".dcm", ".dicom")


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


def find_radiographs(path: Path, words: tuple[str, ...]) -> Mapping[str, tuple[Path, str]]:
    """The images by the stems of their files, with the name of their folder: those in folders that contain a word.

    The folder itself counts if it contains images.
    """
    folders = [folder for folder in listing(path) if folder.is_dir() and any(w in folder.name.lower() for w in words)]
    images: dict[str, tuple[Path, str]] = {}
    for folder in [path, *folders]:
        for file in listing(folder):
            suffix = split_suffix(file)[1] or (file.suffix if file.suffix.lower() in SUFFIXES else "")
            if suffix and file.is_file():
                images.setdefault(file.name[: -len(suffix)], (file, folder.name))
    return images


def corners(values: tuple[float, ...]) -> np.ndarray:
    """Lower and upper corner (row, column) from x0, y0, x1, y1."""
    x0, y0, x1, y1 = values
    return np.array([[y0, x0], [y1, x1]])
