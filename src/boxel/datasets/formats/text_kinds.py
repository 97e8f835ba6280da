"""Which text files a layout is made of; every file is read once for all layouts."""

import re
from collections.abc import Callable, Container, Iterable
from functools import lru_cache
from pathlib import Path

from boxel.inputs.folders import listing
from boxel.inputs.texts import read_text

__all__ = ["forget_kinds", "has_columns", "text_kind", "texts_in", "texts_of_kind"]

_CELLS = re.compile(r"[,;\t]")
_rules: list[Callable[[str], bool]] = []


def text_kind(rule: Callable[[str], bool]) -> Callable[[Path], bool]:
    """A kind of file, by a rule about its text; a file that cannot be read as text is of no kind.

    A file is read once for all kinds. Only its kinds are kept, until `forget_kinds`.
    """
    number = len(_rules)
    _rules.append(rule)
    forget_kinds()

    def is_kind(file: Path) -> bool:
        state = file.stat()
        return number in _kinds_of(file, state.st_mtime_ns, state.st_size)

    return is_kind


@lru_cache(maxsize=1 << 17)
def _kinds_of(file: Path, modified: int, size: int) -> tuple[int, ...]:
    """The numbers of the rules that a file fits; `modified` and `size` tell its versions apart."""
    try:
        text = read_text(file)
    except ValueError:
        return ()
    return tuple(number for number, rule in enumerate(_rules) if rule(text))


def forget_kinds() -> None:
    """Read files again to see of which kind they are."""
    _kinds_of.cache_clear()


def texts_of_kind(places: Iterable[Path], suffixes: Container[str], is_kind: Callable[[Path], bool]) -> list[Path]:
    """The files among `places` with one of the suffixes that are of a kind; see `text_kind`."""
    return [file for file in places if file.suffix.lower() in suffixes and file.is_file() and is_kind(file)]


def texts_in(path: Path, suffixes: Container[str], is_kind: Callable[[Path], bool]) -> list[Path]:
    """The files of a kind in a folder, or `path` itself if it is such a file."""
    return texts_of_kind([path] if path.is_file() else listing(path), suffixes, is_kind)


def has_columns(*names: str) -> Callable[[Path], bool]:
    """A kind of file: tables whose header has these columns, between commas, semicolons or tabulators."""

    def has_them(text: str) -> bool:
        head = text.partition("\n")[0]  # of JSON this may be all of it
        possible = all(name in head for name in names)
        return possible and set(names) <= {name.strip(' "') for name in _CELLS.split(head)}

    return text_kind(has_them)
