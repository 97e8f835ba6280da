"""Which file an annotation means."""

import contextlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from boxel.datasets.names import as_id, below, split_of_folders, split_word, stem_of, words
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import is_clutter, listing, walk
from boxel.io import split_suffix
from boxel.wording import counted

__all__ = ["DICOM", "IMAGE_FOLDERS", "Lookup", "MissingError", "images_below", "root_of"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "pictures", "data")
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "json", "jsons", "lists", "splits", "tables")
DICOM = (".dcm", ".dicom")  # other images are known by the suffixes of boxel.io
MASKS = {
    "mask", "masks", "label", "labels", "seg", "segs", "segmentation", "segmentations", "semantic", "instances", "gt",
    "groundtruth", "truth",
}  # fmt: skip


def root_of(path: Path) -> Path:
    """The folder of a data set that is given by its folder, or by an annotation file in it or in `annotations`."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name.lower() in ANNOTATION_FOLDERS else path.parent


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
        number = as_id(last)  # such as 2.0 for 2.png, as a spreadsheet writes it
        for other in (*first, *([last, str(number)] if isinstance(number, int) else [])):
            with contextlib.suppress(MissingError):
                return self._find(other, annotation)
        return self._find(last, annotation)

    def _find(self, name: str, annotation: Path) -> Path:
        plain = re.sub(r"^(file://|[A-Za-z]:(?=[\\/]))", "", name.strip()).replace("\\", "/")
        parts = tuple(part for part in PurePosixPath(plain.lstrip("/")).parts if part != "..")
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
            listed = some(str(below(file, self.root)) for file in unused)
            problem = f"{counted(len(unused), 'image is', 'images are')} not used without an annotation: {listed}"
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
            self._inner[base] = [path for path in listing(base) if path.is_dir()]
        return self._inner[base]

    def _exact(self, name: str, annotation: Path) -> Path | None:
        path = Path(name)
        places = [path] if path.is_absolute() else [base / path for base in self._bases(annotation)]
        try:
            found = next((at for at in places if at.is_dir() or (at.is_file() and _is_image(at))), None)
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
                fits = [file for file in fits if any(len(below(file, b).parts) == len(parts) - start for b in bases)]
            for same in (_same_name, _same_but_for_case, _same_stem):
                best = [file for file in fits if same(file, parts[-1])]
                if best:
                    return self._only(best, parts, annotation)
        return None

    def _only(self, files: Sequence[Path], parts: tuple[str, ...], annotation: Path) -> Path:
        files = [file for file in files if not file.is_dir()] or files  # not the folder of a file of the same name
        if len(files) > 1:
            listed = some(str(below(file, self.root)) for file in files)
            fix = "write the path with its folder, or choose the folder with --option images=FOLDER"
            raise InputError(annotation, f"image {'/'.join(parts)!r} may be any of {listed}", fix)
        return files[0]

    def _contradicts(self, file: Path, annotation: Path) -> bool:
        """Whether an image lies in the folder of another part of a split than the annotation is made for."""
        wanted = split_word(annotation.stem) or split_of_folders(annotation, self.root)
        parts = {split_word(folder) for folder in below(file, self.root).parts[:-1]} - {""}
        return bool(wanted and parts) and wanted not in parts

    def _is_mask(self, file: Path, parts: tuple[str, ...]) -> bool:
        """Whether a file lies in a folder for masks that its name does not mention."""
        folders = below(file, self.root).parts[:-1]
        return any(MASKS & set(words(folder)) for folder in folders if folder not in parts)

    def _files(self) -> dict[str, list[Path]]:
        if self._index is None:
            self._index = defaultdict(list)
            for path in _walk(self.root):
                self._index[_key(stem_of(path))].append(path)
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
    return _key(stem_of(file)) == _key(_without_suffix(name))


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and in those below, in order; links are followed, hidden files are not seen."""
    return [path for path in _walk(folder) if split_suffix(path)[1] and not path.is_dir()]


def _walk(root: Path) -> Iterator[Path]:
    """Images and folders below `root`, in order; links are followed once."""
    for here, folders, files in walk(root):
        yield from (here / name for name in folders)
        yield from _images(here / name for name in files)


def _images(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if _is_image(path) and not is_clutter(path))


def _is_image(path: Path) -> bool:
    return bool(split_suffix(path)[1]) or path.suffix.lower() in DICOM
