"""The message about a folder of an unknown layout: what it holds, and the layout that comes nearest."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from boxel.datasets.formats.pairs_names import Words
from boxel.datasets.formats.table_columns import SUFFIXES as TABLES
from boxel.datasets.formats.table_columns import why_no_table
from boxel.inputs.folders import listing, walk
from boxel.io import SUFFIXES

__all__ = ["describe"]

WORDS = Words()
PAGE = "docs/bring-your-data.md"
MAX_FILES = 20_000
MAX_GROUPS = 6
# The names of the layouts that most users have, and how their files are named.
COMMON = {
    "pairs": "images/NAME.nii.gz and labels/NAME.nii.gz (any image format), or CASE/ct.nii.gz and CASE/seg.nii.gz",
    "table": "images and a CSV file with a row per box: image,xmin,ymin,xmax,ymax,label",
    "coco": "images and a JSON file with images, annotations and categories",
    "yolo": "images/train/NAME.png and labels/train/NAME.txt",
    "voc": "JPEGImages/NAME.jpg and Annotations/NAME.xml",
    "dicom": "DICOM images with SEG, RTSTRUCT or SR files, in any folders",
    "nnunet": "imagesTr/NAME_0000.nii.gz and labelsTr/NAME.nii.gz",
}
SHEETS = (".xlsx", ".xls", ".ods")
ANNOTATIONS = {**dict.fromkeys((*TABLES, *SHEETS), "table"), ".txt": "yolo", ".xml": "voc", ".json": "coco"}


def describe(path: Path, layouts: Collection[str]) -> str:
    """The message about a folder that has none of the `layouts`; of its files only tables are opened.

    Args:
        path: the folder or file.
        layouts: names of the layouts that were tried.
    """
    files = list(islice(_files_in(path), MAX_FILES)) if path.is_dir() else [path]
    groups = _groups(path, files)
    places = sorted(groups.items(), key=lambda item: (-item[1], item[0]))
    held = ", ".join(f"{count} {suffix or 'without suffix'} in {folder or '.'}/" if path.is_dir() else suffix
                     for (folder, suffix), count in places[:MAX_GROUPS])  # fmt: skip
    more = f" and {len(places) - MAX_GROUPS} other kinds" if len(places) > MAX_GROUPS else ""
    lines = [f"{path}: not a data set in a layout that Boxel knows; it holds {held or 'no files'}{more}"]
    closed = (file for file in files if not os.access(file, os.R_OK))
    lines += [f"{file}: cannot be read; change its mode (chmod) or owner" for file in islice(closed, 3)]
    tables = [path] if path.is_file() else listing(path)
    lines += islice(filter(None, (why_no_table(file) for file in tables if file.suffix.lower() in TABLES)), 3)
    sheets = sorted({suffix for _, suffix in groups} & set(SHEETS))
    if sheets and not any(suffix in TABLES for _, suffix in groups):
        kinds = " or ".join(sheets)
        lines.append(f"Boxel reads no {kinds} files: save the table as CSV (in Excel: Save As, CSV UTF-8)")
    nearest, advice = _nearest(groups)
    if nearest in layouts:
        lines.append(f"nearest layout: {nearest}, {COMMON[nearest]}")
        lines += [advice] if advice else []
    else:
        lines.append("common layouts:")
        lines += [f"  {name}: {files}" for name, files in COMMON.items() if name in layouts]
    return "\n".join([*lines, f"all layouts and their options: {PAGE}; --format NAME names the layout"])


def _files_in(path: Path) -> Iterator[Path]:
    return (folder / name for folder, _, names in walk(path) for name in names)


def _groups(path: Path, files: Iterable[Path]) -> Counter[tuple[str, str]]:
    """The number of files for each folder directly in `path` ("" for `path` itself) and suffix."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in files:
        inner = file.relative_to(path).parts[:-1]
        counts[inner[0] if inner else "", _suffix(file.name)] += 1
    return counts


def _suffix(name: str) -> str:
    known = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return max(known, key=len) if known else Path(name).suffix.lower()


def _nearest(groups: Counter[tuple[str, str]]) -> tuple[str, str]:
    """The layout that the kinds of files suggest, and advice; empty if nothing suggests one."""
    images = {folder for folder, suffix in groups if suffix in SUFFIXES}
    if any(suffix == ".dcm" for _, suffix in groups):
        return "dicom", ""
    beside = Counter({ANNOTATIONS[suffix]: n for (_, suffix), n in groups.items() if suffix in ANNOTATIONS})
    if images and beside:
        return beside.most_common(1)[0][0], ""
    if len(images) > 1:
        names = sorted(folder for folder in images if folder)
        folders = ", ".join(f"{name}/" for name in names) + (", ." if "" in images else "")
        known = [
            [name for name in names if re.fullmatch(kind, name.lower())] for kind in (WORDS.of_images, WORDS.of_masks)
        ]
        if all(known):
            advice = (
                f"call each label map in {known[1][0]}/ like its image in {known[0][0]}/; if it holds folders, choose "
            )
            return "pairs", f"{advice}one with --format pairs --option masks={known[1][0]}/FOLDER"
        advice = f"rename the folders ({folders}) to images and labels, and give the files of a case the same name"
        if len(names) > 1:
            advice += ", or keep the folders and add --format pairs --option images=FOLDER --option masks=FOLDER"
        return "pairs", advice
    if images:
        return "pairs", "no annotation is here; `boxel predict` takes a folder of images without one"
    return "", ""
