"""The entries of folders: what is listed, what is skipped, and what is never opened.

Listed are regular files and folders; links to them are followed. Files of operating systems and unfinished ones are
skipped. FIFOs, sockets, devices and loops of links are skipped with a warning: opening one may never end.
"""

import errno
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase, translate
from pathlib import Path

from boxel.inputs.problems import InputError

__all__ = ["is_clutter", "listed_once", "listing", "refuse_special", "walk"]

CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
SPECIAL = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a disk"))
_known: ContextVar[dict[Path, list[str]] | None] = ContextVar("_known", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """Within it, `listing` looks at each folder once: for code that asks again and again, and changes no folder."""
    token = _known.set({} if (known := _known.get()) is None else known)
    try:
        yield
    finally:
        _known.reset(token)


def is_clutter(path: Path) -> bool:
    """Whether an operating system wrote a file or folder, or a program has not finished it.

    These are hidden ones, such as macOS's `._a.png` and `.a.1234.tmp.mha`, and `Thumbs.db`, `__MACOSX` ...
    """
    return _is_clutter(path.name)


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def listing(folder: Path, pattern: str = "*") -> list[Path]:
    """The entries of a folder whose names have the pattern, sorted; empty if there is no such folder.

    Raises:
        InputError: there is no permission to list it.
    """
    known = _known.get()
    if known is None:
        return [folder / name for name in _names(folder, pattern)]
    if folder not in known:
        known[folder] = _names(folder, "*")
    matches = re.compile(translate(pattern)).match
    return [folder / name for name in known[folder] if pattern == "*" or matches(name)]


def _names(folder: Path, pattern: str) -> list[str]:
    try:
        return [name for name, _ in _entries(folder, pattern)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(folder, f"cannot be listed ({error.strerror})", "change its mode (chmod) or owner") from None


def walk(root: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like `os.walk`, in order of names; links are followed, and no folder is visited twice."""
    seen, rest = set(), [Path(root)]
    while rest:
        folder = rest.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = _entries(folder)
        except OSError as error:
            if onerror:
                onerror(error)
            continue
        folders = [name for name, is_folder in entries if is_folder]
        yield folder, folders, [name for name, is_folder in entries if not is_folder]
        rest += [folder / name for name in reversed(folders)]


def refuse_special(path: Path) -> None:
    """Raise InputError if a path is that of a FIFO, a socket, a device or a loop of links."""
    if kind := _special(path):
        raise InputError(path, f"is {kind}, not a file", "give a regular file")


def _entries(folder: Path, pattern: str = "*") -> list[tuple[str, bool]]:
    """The names in a folder that are no clutter and can be opened, sorted, and whether each is that of a folder."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_clutter(entry.name) or not fnmatchcase(entry.name, pattern):
                continue
            try:
                is_folder = entry.is_dir()
                plain = is_folder or entry.is_file()
            except OSError:  # a loop of links
                is_folder = plain = False
            if plain or _said(folder / entry.name):
                found.append((entry.name, is_folder))
    return sorted(found)


def _said(path: Path) -> bool:
    """Whether a file can be opened; a warning says why not. A missing one is for its reader to name."""
    if kind := _special(path):
        warnings.warn(f"{path}: skipped, because it is {kind}", stacklevel=2)
    return not kind


def _special(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "a loop of links" if error.errno == errno.ELOOP else ""
    return next((kind for holds, kind in SPECIAL if holds(mode)), "")
