"""What names say: the identity of a number, the part of a split, and what a case is called."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from boxel.datasets.problems import InputError
from boxel.escaping import printable
from boxel.io import split_suffix

__all__ = [
    "as_id",
    "below",
    "can_name_files",
    "case_ids",
    "part_named",
    "split_of_folders",
    "split_word",
    "stem_of",
    "words",
]

WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}
MOST_BYTES = 200  # of the name of a case
PLAIN = re.compile(r"\w[\w.-]*", re.ASCII)  # the names of nearly all cases
NO_FILE_NAME = "cannot be a file name"
NAMES_OF_CASES = f"rename it without /, leading dot and control characters, in at most {MOST_BYTES} bytes"
HELD_OUT = re.compile(r"(?<![a-z])h[eo]ld[-_ ]?out", re.IGNORECASE)


def as_id(value: object) -> int | str | None:
    """The identity of a number that may have been written as a text or a float: `1`, `1.0`, `"1"` and `"1.0"` are 1.

    Other texts are themselves, without surrounding blanks; anything else is None.
    """
    if type(value) is int:  # nearly always
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not re.fullmatch(r"[+-]?(0|[1-9]\d{0,307})(\.0*)?", value):  # "007" is a name
            return value or None
        value = float(value) if "." in value else int(value)
    return int(value) if value == value and abs(value) != float("inf") and value == int(value) else None


def split_word(name: str) -> str:
    """The part of a split that a file or folder name says in a whole word: train, val, test, or `""`.

    Example:
        >>> [split_word(name) for name in ("val2017", "TestSet", "held-out", "latest_export", "train_test")]
        ['val', 'test', 'test', '', '']
    """
    parts = {WORDS[word] for word in words(HELD_OUT.sub("holdout", name)) if word in WORDS}
    return parts.pop() if len(parts) == 1 else ""


def part_named(name: str) -> str:
    """The part of a split that is the whole name, such as the key of a list: train, val, test, or `""`.

    Example:
        >>> [part_named(name) for name in ("Validation", "hold-out", "numTraining")]
        ['val', 'test', '']
    """
    return WORDS.get(HELD_OUT.sub("holdout", name).strip().lower(), "")


def split_of_folders(file: Path, root: Path) -> str:
    """The part of a split that the folders of a file say, those below `root`: train, val, test, or `""`.

    Raises:
        InputError: they say several.
    """
    parts = {split_word(folder): folder for folder in below(file, root).parts[:-1] if split_word(folder)}
    if len(parts) > 1:
        problem = f"the folders {' and '.join(parts.values())} are those of different parts of a split"
        raise InputError(file, problem, "move it to a folder of one part", stem_of(file))
    return next(iter(parts), "")


def can_name_files(case: str) -> bool:
    """Whether files can be named after a case: no folder in its name, no leading dot, nothing that steers a terminal.

    A file name has at most 255 bytes on most systems, and some are needed for what the file is.
    """
    if PLAIN.fullmatch(case):
        return len(case) <= MOST_BYTES
    short = len(case.encode("utf-8", "surrogatepass")) <= MOST_BYTES
    return bool(case) and Path(case).name == case and not case.startswith(".") and short and printable(case) == case


def words(name: str) -> list[str]:
    """The words of a name, in lower case."""
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
        same[stem_of(file)].append(number)
    names = [""] * len(files)
    for stem, numbers in same.items():
        folders = {n: below(files[n], root).parts[:-1] for n in numbers}
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


def stem_of(path: Path) -> str:
    """The name of a file without its image suffix; of a folder all of it."""
    return path.name if path.is_dir() else split_suffix(path)[0] or path.name


def below(path: Path, root: Path) -> Path:
    """The path relative to `root`, if it lies there."""
    return path.relative_to(root) if path.is_relative_to(root) else path
