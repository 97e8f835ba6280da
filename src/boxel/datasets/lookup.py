"""Which file an annotation means, and what its case is called."""

import contextlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from boxel.datasets.problems import InputError, Report, some
from boxel.io import split_suffix

__all__ = [
    "IMAGE_FOLDERS",
    "Lookup",
    "MissingError",
    "as_id",
    "case_ids",
    "images_below",
    "is_clutter",
    "root_of",
    "split_word",
]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "pictures", "data")
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "json", "jsons", "lists", "splits", "tables")
CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
MASKS = {
    "mask", "masks", "label", "labels", "seg", "segs", "segmentation", "segmentations", "semantic", "instances", "gt",
    "groundtruth", "truth",
}  # fmt: skip
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def is_clutter(path: Path) -> bool:
    """Whether an operating system wrote a file or folder: hidden ones, macOS's `._a.png`, `Thumbs.db` ..."""
    return path.name.startswith(".") or path.name.lower() in CLUTTER


def root_of(path: Path) -> Path:
    """The folder of a data set that is given by its folder, or by an annotation file in it or in `annotations`."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name.lower() in ANNOTATION_FOLDERS else path.parent


def as_id(value: object) -> int | str | None:
    """The identity of a number that may have been written as a text or a float: `1`, `1.0`, `"1"` and `"1.0"` are 1.

    Other texts are themselves, without surrounding blanks; anything else is None.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not re.fullmatch(r"[+-]?(0|[1-9]\d*)(\.0*)?", value):  # "007" is a name
            return value or None
        value = float(value) if "." in value else int(value)
    return int(value) if value == value and abs(value) != float("inf") and value == int(value) else None


def split_word(name: str) -> str:
    """The part of a split that a file or folder name says in a whole word: train, val, test, or `""`.

    Example:
        >>> [split_word(name) for name in ("instances_val2017", "TestSet", "latest_export", "train_test")]
        ['val', 'test', '', '']
    """
    parts = {WORDS[word] for word in _words(name) if word in WORDS}
    return parts.pop() if len(parts) == 1 else ""


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def case_ids(files: Sequence[Path], root: Path) -> list[str]:
    """Names for images that are unique and can name files.

    The name of a case is that of its file without suffix. Where names repeat, the folders below `root` that tell the
    files apart are put before it (`p1_001`); files that differ in nothing but their suffix get that too (`a_png`).

    Raises:
        InputError: two files get one name all the same.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        same[_stem(file)].append(number)
    names = [""] * len(files)
    for stem, numbers in same.items():
        folders = {n: _below(files[n], root).parts[:-1] for n in numbers}
        depth = _distinct_depth(list(folders.values()))
        chosen = {n: "_".join((*folders[n][len(folders[n]) - depth :], stem)) for n in numbers}
        for n in numbers:
            alike = [m for m in numbers if chosen[m] == chosen[n]]
            suffix = files[n].name[len(stem) :].replace(".", "_") if len(alike) > 1 else ""
            names[n] = chosen[n] + suffix
    owners: dict[str, Path] = {}
    for name, file in zip(names, files, strict=True):
        if owners.setdefault(name, file) != file:
            raise InputError(file, f"{owners[name]} has the same name {name!r}", "rename one of them", name)
    return names


def _distinct_depth(folders: Sequence[tuple[str, ...]]) -> int:
    """How many of the innermost folders tell most of the files apart."""
    deepest = max(map(len, folders))
    counts = [len({parts[max(len(parts) - depth, 0) :] for parts in folders}) for depth in range(deepest + 1)]
    return counts.index(max(counts))


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else split_suffix(path)[0] or path.name


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _key(name: str) -> str:
    """Equal for names that differ only in case, or in how accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


class MissingError(InputError):
    """There is no image of a name."""


class Lookup:
    r"""The image files below a folder, found by the names that annotations give them.

    A name is a path relative to the annotation's file or to a folder of the layout, or just the name of a file; it may
    come from another machine (`D:\data\a.png`) or lack its suffix. An exact path comes before an approximate one, and
    a name that fits several files equally well fits none. Folders for masks are left out unless a name mentions them.

    Args:
        root: folder of the data set. Links are followed; hidden files and those of operating systems are not seen.
        report: called with names that are not those of the files, and with images that no annotation names.
        images: folder of the images, absolute or below `root`; if empty, all folders are searched.
        folders: where the layout keeps its images, below `root`; a path may be relative to them.
    """

    def __init__(self, root: Path, report: Report, images: str = "", folders: Sequence[str] = IMAGE_FOLDERS) -> None:
        self.root = root / images
        if images and not self.root.is_dir():
            raise InputError(self.root, "no such folder", "give the folder of the images with --option images=FOLDER")
        self.report = report
        self.folders = [self.root, *(self.root / folder for folder in folders if (self.root / folder).is_dir())]
        self.chosen = bool(images)
        self.names: dict[Path, tuple[str, bool]] = {}  # of the images that were found, and whether they are exact
        self._index: dict[str, list[Path]] | None = None
        self._inner: dict[Path, list[Path]] = {}

    def find(self, name: str, annotation: Path, *others: str) -> Path:
        """The image that the file `annotation` calls `name`, or if there is none the first of `others`.

        Raises:
            InputError: there is none, there are several, or another name has got this image.
        """
        *first, last = name, *others
        for other in first:
            with contextlib.suppress(MissingError):
                return self._find(other, annotation)
        return self._find(last, annotation)

    def _find(self, name: str, annotation: Path) -> Path:
        plain = re.sub(r"^(file://|[A-Za-z]:(?=[\\/]))", "", name.strip()).replace("\\", "/")
        parts = PurePosixPath(plain.lstrip("/")).parts
        if not parts:
            raise InputError(annotation, f"image {name!r} is not a file name", "write a path below the data set")
        exact = self._exact(name.strip(), annotation) or self._exact(plain, annotation)
        file = exact or self._approximate(parts, plain.startswith("/"), annotation)
        if file is None:
            raise MissingError(annotation, f"image {name!r} does not exist", f"add it to {self.root}")
        mine = "/".join(parts)
        other, was_exact = self.names.setdefault(file, (mine, bool(exact)))
        if other != mine and not (exact and was_exact):
            absent, owner = (other, mine) if exact else (mine, other)
            problem = f"image {absent!r} does not exist; the nearest, {file}, belongs to {owner!r}"
            raise InputError(annotation, problem, "add the image, or correct the names")
        if not exact and split_suffix(Path(parts[-1]))[1] not in ("", split_suffix(file)[1]):
            problem = f"image {name!r} does not exist; {file.name} is used instead"
            self.report(InputError(annotation, problem, "correct the name if it is another image", severity="warning"))
        return file

    def report_unused(self) -> None:
        """Say which images lie beside those that were found, without an annotation that names them."""
        folders = {file.parent for file in self.names}
        unused = [
            file
            for files in self._files().values()
            for file in files
            if file.is_file() and file.parent in folders and file not in self.names
        ]
        if unused:
            listed = some(str(_below(file, self.root)) for file in unused)
            problem = f"{len(unused)} images have no annotation and are not used: {listed}"
            fix = "annotate them, also those without objects, if they should be used"
            self.report(InputError(self.root, problem, fix, severity="warning"))

    def _bases(self, annotation: Path) -> list[Path]:
        """The folders that a path may be relative to: that of the annotation, those of its part of a split, others."""
        part = split_word(annotation.stem)
        inner = [folder for base in self.folders for folder in self._folders_in(base)] if part else []
        mine = [folder for folder in inner if split_word(folder.name) == part]
        return list(dict.fromkeys([*([] if self.chosen else [annotation.parent]), *mine, *self.folders]))

    def _folders_in(self, base: Path) -> list[Path]:
        if base not in self._inner:
            self._inner[base] = sorted(path for path in base.iterdir() if path.is_dir() and not is_clutter(path))
        return self._inner[base]

    def _exact(self, name: str, annotation: Path) -> Path | None:
        path = Path(name)
        places = [path] if path.is_absolute() else [base / path for base in self._bases(annotation)]
        try:
            found = next((at for at in places if at.is_dir() or (at.is_file() and split_suffix(at)[1])), None)
            plain = Path(os.path.normpath(found)) if found else None  # one image, one path
            return plain if plain and found and plain.exists() and plain.samefile(found) else found
        except (OSError, ValueError):  # longer than a name may be, or with a zero in it
            return None

    def _approximate(self, parts: tuple[str, ...], absolute: bool, annotation: Path) -> Path | None:
        """The one file whose path ends like the name; folders of other machines may be missing here."""
        bases = self._bases(annotation)
        alike = self._files().get(_key(_without_suffix(parts[-1])), [])
        alike = [file for file in alike if not self._contradicts(file, annotation) and not self._is_mask(file, parts)]
        known = [base.joinpath(*parts[:-1]) for base in bases]
        for folder in known:  # a name without suffix, or of another case, where the layout keeps its images
            beside = [file for file in alike if file.parent == folder and _same_but_for_suffix(file, parts[-1])]
            if beside:
                return self._only(beside, parts, annotation)
        for start in range(len(parts)):  # the longest end first
            if start and any((base / parts[start - 1]).is_dir() for base in bases):
                break  # the folder of the name is here, without the image
            fits = [file for file in alike if _ends_with(file, parts[start:])]
            if any(folder.is_dir() for folder in known) and not start and parts[1:]:
                fits = [file for file in fits if file.parent in known]
            if start and not absolute:  # a folder of the name is dropped: only where the layout keeps its images
                fits = [file for file in fits if any(len(_below(file, b).parts) == len(parts) - start for b in bases)]
            for same in (_same_name, _same_but_for_case, _same_stem):
                best = [file for file in fits if same(file, parts[-1])]
                if best:
                    return self._only(best, parts, annotation)
        return None

    def _only(self, files: Sequence[Path], parts: tuple[str, ...], annotation: Path) -> Path:
        files = [file for file in files if not file.is_dir()] or files  # not the folder of a file of the same name
        if len(files) > 1:
            listed = some(str(_below(file, self.root)) for file in files)
            fix = "write the path with its folder, or choose the folder with --option images=FOLDER"
            raise InputError(annotation, f"image {'/'.join(parts)!r} may be any of {listed}", fix)
        return files[0]

    def _contradicts(self, file: Path, annotation: Path) -> bool:
        """Whether an image lies in the folder of another part of a split than the annotation is made for."""
        wanted = split_word(annotation.stem)
        parts = {split_word(folder) for folder in _below(file, self.root).parts[:-1]} - {""}
        return bool(wanted and parts) and wanted not in parts

    def _is_mask(self, file: Path, parts: tuple[str, ...]) -> bool:
        """Whether a file lies in a folder for masks that its name does not mention."""
        folders = _below(file, self.root).parts[:-1]
        return any(MASKS & set(_words(folder)) for folder in folders if folder not in parts)

    def _files(self) -> dict[str, list[Path]]:
        if self._index is None:
            self._index = defaultdict(list)
            for path in _walk(self.root):
                self._index[_key(_stem(path))].append(path)
        return self._index


def _without_suffix(name: str) -> str:
    return split_suffix(Path(name))[0] or name


def _ends_with(file: Path, parts: tuple[str, ...]) -> bool:
    folders = file.parts[:-1]
    wanted = parts[:-1]
    return not wanted or [*map(_key, folders[-len(wanted) :])] == [*map(_key, wanted)]


def _same_name(file: Path, name: str) -> bool:
    return file.name == name


def _same_but_for_case(file: Path, name: str) -> bool:
    return _key(file.name) == _key(name)


def _same_but_for_suffix(file: Path, name: str) -> bool:
    """Whether a name without suffix is that of the file; one with a suffix must be the same but for case."""
    return _same_but_for_case(file, name) if split_suffix(Path(name))[1] else _same_stem(file, name)


def _same_stem(file: Path, name: str) -> bool:
    return _key(_stem(file)) == _key(_without_suffix(name))


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and in those below, in order; links are followed, hidden files are not seen."""
    return [path for path in _walk(folder) if split_suffix(path)[1] and not path.is_dir()]


def _walk(root: Path) -> Iterator[Path]:
    """Images and folders below `root`, in order; links are followed once."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not is_clutter(here / name))
        yield from (here / name for name in folders)
        yield from _images(here / name for name in sorted(files))


def _images(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if split_suffix(path)[1] and not is_clutter(path))
