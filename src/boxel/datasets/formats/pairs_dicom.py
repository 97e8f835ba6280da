"""DICOM series, each in a folder of its own, with label maps in files of other kinds.

images/p1/ labels/p1.nii.gz    a folder of slices, or one in it, with the name of the label map
p1/ p1_mask.nii.gz             the same beside each other
p1/mask.nii.gz                 the only label map among the slices
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from boxel.datasets.formats.dicom_files import dicom_folders
from boxel.datasets.lookup import MASKS, images_below
from boxel.datasets.names import below, words
from boxel.datasets.problems import InputError, Report, some
from boxel.io import split_suffix
from boxel.io.dicom_damage import is_annotation

__all__ = ["LABELS", "dicom_pairs", "label_maps_below"]

LABELS = (  # longer words before their beginnings
    "instances|labelmaps?|labels?|masks?|segmentations?|segs?|lesions?|annotations?|ground_?truth|gt|roi|nodule_mask"
)


def label_maps_below(path: Path) -> dict[Path, str]:
    """Image files that their names or folders call label maps, with what the names say besides."""
    maps = {}
    for file in images_below(path):
        stem = split_suffix(file)[0].removesuffix(".seg")
        match = re.fullmatch(rf"(?:{LABELS})(?:[_-]?(?P<a>.*))|(?P<b>.+)[_-](?:{LABELS})", stem.lower())
        if match or any(MASKS & set(words(folder)) for folder in below(file, path).parts[:-1]):
            maps[file] = (match["a"] or match["b"] or "") if match else stem.lower()
    return maps


def dicom_pairs(path: Path, report: Report) -> dict[str, tuple[Path, Path]]:
    """Folder of the series and label map of each case by its name; empty if DICOM objects are the annotation.

    Args:
        path: folder of the data set.
        report: called with label maps whose series is not there or not certain.
    """
    maps = label_maps_below(path)
    folders = list(dicom_folders(path)) if maps else []
    if not folders or any(file.is_file() and is_annotation(file) for folder in folders for file in folder.iterdir()):
        return {}
    inside = Counter(file.parent for file in maps)
    chosen: dict[Path, list[Path]] = defaultdict(list)
    for file, name in maps.items():
        named = [folder for folder in folders if name in map(str.lower, below(folder, path).parts)]
        own = [file.parent] if file.parent in folders and inside[file.parent] == 1 else []
        fits = own or named or (folders if len(folders) == len(maps) == 1 else [])
        if len(fits) == 1:
            chosen[fits[0]].append(file)
        else:
            listed = some(str(below(folder, path)) for folder in fits)
            problem = f"its DICOM series may be any of {listed}" if fits else "a label map without its DICOM series"
            fix = "call it like the folder of the series; SEG, RTSTRUCT and SR are read by --format dicom"
            report(InputError(file, problem, fix, name))
    several = next((files for files in chosen.values() if len(files) > 1), None)
    if several:
        report(InputError(several[0], f"{several[1].name} belongs to the same series", "keep one of them"))
    names = {folder: maps[files[0]] or folder.name for folder, files in chosen.items()}
    counts = Counter(names.values())
    return {
        name if counts[name] == 1 else "_".join(below(folder, path).parts): (folder, chosen[folder][0])
        for folder, name in names.items()
    }
