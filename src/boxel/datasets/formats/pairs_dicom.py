"""DICOM series, each in a folder of its own, with label maps in files of other kinds.

images/p1/ labels/p1.nii.gz    a folder of slices, or one in it, with the name of the label map
p1/ p1_mask.nii.gz             the same beside each other
p1/mask.nii.gz                 the only label map among the slices, or beside the one folder of slices, p1/CT/
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from boxel.datasets.formats.dicom_files import dicom_folders
from boxel.datasets.formats.pairs_names import Words, contradict, stem
from boxel.datasets.lookup import images_below
from boxel.datasets.names import below
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.io import itk, pictures, split_suffix
from boxel.io.dicom_damage import is_annotation

__all__ = ["dicom_pairs", "maps_of_series", "pairs_hint", "volumes_below"]

VOLUMES = (*itk.SUFFIXES, *pictures.TIFF_SUFFIXES)


def dicom_pairs(path: Path, report: Report, words: Words) -> dict[str, tuple[Path, Path]]:
    """Folder of the series and label map of each case by its name; empty if DICOM objects are the annotation.

    Args:
        path: folder of the data set.
        report: called with label maps whose series is not there or not certain.
        words: what the user calls label maps.
    """
    maps = words.masks_below(path)
    folders = list(dicom_folders(path)) if maps else []
    if not folders or any(file.is_file() and is_annotation(file) for folder in folders for file in listing(folder)):
        return {}
    inside = Counter(file.parent for file in maps)
    chosen: dict[Path, list[Path]] = defaultdict(list)
    for file, name in maps.items():
        named = [folder for folder in folders if name in map(str.lower, below(folder, path).parts)]
        near = [folder for folder in folders if folder.is_relative_to(file.parent)] if inside[file.parent] == 1 else []
        own = [file.parent] if file.parent in near else near if len(near) == 1 else []
        only = len(folders) == len(maps) == 1 and not contradict(folders[0].name, stem(file))
        fits = own or named or (folders if only else [])
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


def volumes_below(path: Path) -> list[Path]:
    """Image files that may be label maps of DICOM series: those with such names, and volumes of any name."""
    named = Words().masks_below(path)
    return [file for file in images_below(path) if file in named or split_suffix(file)[1] in VOLUMES]


def maps_of_series(path: Path, maps: Sequence[Path], folders: Collection[Path]) -> list[Path]:
    """The label maps that belong to series: in their folder, directly above or below it, or called like it."""
    above = {folder.parent for folder in folders}
    called = {name.lower() for folder in folders for name in below(folder, path).parts}
    inner = {*folders, *above} - {path}
    return [
        file
        for file in maps
        if file.parent in {*folders, *above} or file.parent.parent in inner or stem(file).lower() in called
    ]


def pairs_hint(path: Path, maps: Sequence[Path]) -> str:
    """How to read label maps beside DICOM series: the option that pairs every one of them, if there is one."""
    names = [stem(file) for file in maps]
    ends = [re.split(r"[_-]", name)[-1] for name in names]
    starts = [re.split(r"[_-]", name)[0] for name in names]
    for candidates in (names, ends, starts, [file.parent.name for file in maps]):
        word = candidates[0]
        if word and {name.lower() for name in candidates} == {word.lower()}:
            problems: list[InputError] = []
            pairs = dicom_pairs(path, problems.append, Words(masks=word))
            if not problems and {drawn for _, drawn in pairs.values()} == set(maps):
                return f"read them with --format pairs --option masks={word}"
    return "keep one label map beside each series, call it mask (mask.nii.gz), and use --format pairs"
