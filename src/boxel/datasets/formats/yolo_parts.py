"""The parts of a split in YOLO's layout: folders of images and of their annotations, as data.yaml or names say."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from boxel.datasets.lookup import MASKS, Lookup, images_below
from boxel.datasets.names import part_named, split_word, words
from boxel.datasets.problems import InputError, Report, Severity
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_mapping, read_text
from boxel.io import split_suffix

__all__ = ["PARTS", "Part", "heads_of", "masks_of", "parts_of", "texts_below", "usual_parts"]

PARTS = ("", "train", "val", "test")


@dataclass(frozen=True)
class Part:
    """Images of one part of a split, and the folder of their annotations, whose paths are alike.

    Attributes:
        listed: the images are named one by one.
    """

    name: str
    images: Path
    labels: Path
    files: Sequence[Path]
    listed: bool = False

    def text(self, image: Path) -> Path:
        """The annotation of an image; if no other image has it, its name may differ in case or encoding."""
        relative = image.relative_to(self.images)
        plain = self.labels / relative.with_name(f"{split_suffix(image)[0]}.txt")
        alike = [] if plain.exists() else self._spare.get(_key(plain.relative_to(self.labels)), [])
        return alike[0] if len(alike) == 1 else plain

    @cached_property
    def _spare(self) -> dict[str, list[Path]]:
        """The annotations whose name is not exactly that of an image."""
        exact = {image.relative_to(self.images).with_name(f"{split_suffix(image)[0]}.txt") for image in self.files}
        spare: dict[str, list[Path]] = defaultdict(list)
        for text in texts_below(self.labels):
            if text.relative_to(self.labels) not in exact:
                spare[_key(text.relative_to(self.labels))].append(text)
        return spare


def _key(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def texts_below(folder: Path) -> Iterator[Path]:
    """The annotations in a folder and in those below."""
    for path in listing(folder):
        if path.is_dir():
            yield from texts_below(path)
        elif path.suffix.lower() == ".txt" and path.stem != "classes":
            yield path


def parts_of(path: Path, report: Report) -> list[Part]:
    """The parts that a data.yaml names, and where it names none that exists those in the usual folders."""
    heads, usual = heads_of(path), usual_parts(path)
    entries: dict[str, Any] = {}
    for key, value in ((str(key), value) for values in heads.values() for key, value in values.items() if value):
        if part_named(key):
            entries.setdefault(part_named(key), value)
    chosen: list[Part] = []
    for part, named in entries.items():
        for entry in map(str, named if isinstance(named, list) else [named] if named else []):
            mine = _named(path, part, entry, heads, report)
            instead = [] if mine else [other for other in usual if other.name == part]
            if not mine:
                problem = f"{entry!r}, which data.yaml names for {part}, does not exist"
                problem += f"; {instead[0].images.relative_to(path)} is used" if instead else ""
                severity: Severity = "warning" if instead or part == "test" else "error"
                report(InputError(path, problem, "correct the path", severity=severity))
            chosen += [new for new in mine or instead if new not in chosen]
    return chosen or usual


def _named(path: Path, part: str, entry: str, heads: Mapping[Path, Mapping[str, Any]], report: Report) -> list[Part]:
    """The images of a folder, or of a text file that lists them; empty if there is neither."""
    roots = [path / str(values.get("path") or "") for values in heads.values()]
    inside = re.sub(r"^(\.\./)+", "", entry.replace("\\", "/"))  # Roboflow writes ../train/images for train/images
    places = [path / inside, *(root / entry for root in roots), path / entry]
    folder = next((Path(os.path.normpath(place)) for place in places if place.is_dir()), None)
    if folder:
        inner = _inside(folder, "images")
        folder = inner if "images" not in map(str.lower, folder.parts) and inner.is_dir() else folder
        return [Part(part, folder, _labels(folder), images_below(folder))]
    file = next((place for place in places if place.is_file()), None)
    lookup = Lookup(path, report)
    files: dict[Path, list[Path]] = defaultdict(list)
    for line in filter(str.strip, read_text(file).splitlines()) if file else ():
        try:
            image = lookup.find(line, file or path)
        except InputError as problem:
            report(problem)
            continue
        files[image.parent].append(image)
    return [Part(part, folder, _labels(folder), images, True) for folder, images in files.items()]


def masks_of(place: Part) -> set[Path]:
    """The images without annotation in a folder for masks, or named after another image and what they are."""
    images = images_below(place.images)
    stems = {image.with_name(split_suffix(image)[0]) for image in images}

    def is_mask(image: Path) -> bool:
        name = split_suffix(image)[0]
        start, _, last = re.sub(r"[-. ]", "_", name).rpartition("_")
        inner = image.relative_to(place.images).parts[:-1]
        named = bool(start) and last.lower() in MASKS and image.with_name(name[: len(start)]) in stems
        return named or any(MASKS & set(words(folder)) for folder in inner)

    return {image for image in images if is_mask(image) and not place.text(image).exists()}


def _labels(images: Path) -> Path:
    """The folder of the annotations: the last `images` in the path replaced, or else that of the images."""
    names = [name.lower() for name in images.parts[::-1]]
    if "images" not in names:
        return images
    depth = names.index("images")
    folder = images.parents[depth]
    for name in ("labels", *images.parts[len(images.parts) - depth :]):
        folder = _inside(folder, name)
    return folder


def _inside(folder: Path, name: str) -> Path:
    """The folder of a name in another, if there is none that of the name in other case."""
    alike = [inner for inner in listing(folder) if inner.name.lower() == name.lower() and inner.is_dir()]
    return folder / name if len(alike) != 1 or (folder / name).is_dir() else alike[0]


def usual_parts(path: Path) -> list[Part]:
    """The parts in folders such as `images/train` or `train/images`, and all images without such a folder."""
    images = _inside(path, "images")
    folders = [folder for folder in listing(images) if folder.is_dir() and split_word(folder.name)]
    folders += [_inside(folder, "images") for folder in listing(path) if split_word(folder.name)]
    named = [(split_word(folder.name) or split_word(folder.parent.name), folder) for folder in folders]
    return [
        Part(part, folder, _labels(path / folder.relative_to(path)), images_below(folder))
        for part, folder in [*named, ("", images)]
        if folder.is_dir()
    ]


def heads_of(path: Path) -> dict[Path, dict[str, Any]]:
    """What data.yaml says, or any other YAML there."""
    files = [file for file in listing(path) if file.suffix in (".yaml", ".yml")]
    return {file: values for file in files if isinstance(values := read_mapping(file), dict)}
