"""Which files are label maps of images that are there too, by their names and folders."""

import re
from collections.abc import Iterable
from pathlib import Path

from boxel.datasets.formats.pairs_names import CHANNEL, IMAGE, LABELS
from boxel.datasets.lookup import MASKS
from boxel.datasets.names import below
from boxel.io import split_suffix

__all__ = ["label_maps"]

KINDS = "|".join([LABELS, *sorted(MASKS)])
FOLDERS = re.compile(rf"(?:{KINDS})(?:[_-](?:{KINDS}))*(?:tr|ts)?"), re.compile(rf"(?:{IMAGE})(?:tr|ts)?")
FILES = tuple(  # the words for label maps and for images, at the beginning or the end of a name
    re.compile(rf"^(?:(?:{kind})(?:[_-]+|(?=\d)|$))+|(?:[_-]+(?:{kind}))+$") for kind in (KINDS, f"{IMAGE}|{CHANNEL}")
)


def label_maps(files: Iterable[Path], root: Path, series: Iterable[Path] = ()) -> set[Path]:
    """The files that are called label maps and, without the words for label maps and images, like an image.

    Args:
        files: images and label maps.
        root: the folder that they lie below; what it is called itself says nothing.
        series: folders of DICOM files, which are images as well.

    Example:
        >>> names = ["P1_ct.nii", "P1_ROI.nii", "P2_ROI.nii", "images/7.png", "tumor/7.png", "tumor/8.png"]
        >>> sorted(map(str, label_maps(map(Path, names), Path())))
        ['P1_ROI.nii', 'tumor/7.png']
    """
    meanings = {file: _meaning(file, root) for file in files}
    images = {image for image, is_map in meanings.values() if not is_map}
    images |= {_meaning(place, root)[0] for folder in series for place in (folder, folder / "ct")}
    return {file for file, (image, is_map) in meanings.items() if is_map and image in images}


def _meaning(file: Path, root: Path) -> tuple[tuple[str, ...], bool]:
    """The folders and the name of a file without words for label maps and images, and whether it has the former."""
    of_maps, of_images = FOLDERS
    folders = [folder.lower() for folder in below(file, root).parts[:-1]]
    kept = tuple(folder for folder in folders if not of_maps.fullmatch(folder) and not of_images.fullmatch(folder))
    name = split_suffix(file)[0].lower()
    bare = FILES[0].sub("", name)
    return (*kept, FILES[1].sub("", bare)), bare != name or any(map(of_maps.fullmatch, folders))
