"""The entries of folders: what is listed, what is skipped, and what is never opened.

Listed are regular files and folders; links to them are followed. Files of operating systems and unfinished ones are
skipped. FIFOs, sockets, devices and loops of links are skipped with a warning: opening one may never end.
"""

import errno
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from boxel.inputs.problems import InputError

__all__ = ["is_clutter", "listing", "refuse_special", "walk"]

CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
SPECIAL = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a disk"))


def is_clutter(path: Path) -> bool:
    """Whether an operating system wrote a file or folder, or a program has not finished it.

    These are hidden ones, such as macOS's `._a.png` and `.a.1234.tmp.mha`, and `Thumbs.db`, `__MACOSX` ...
    """
    return path.name.startswith(".") or path.name.lower() in CLUTTER


def listing(folder: Path, pattern: str = "*") -> list[Path]:
    """The entries of a folder whose names have the pattern, sorted; empty if there is no such folder.

    Raises:
        InputError: there is no permission to list it.
    """
    try:
        with os.scandir(folder) as entries:
            found = [folder / e.name for e in entries if fnmatchcase(e.name, pattern) and _is_listed(folder, e)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(folder, f"cannot be listed ({error.strerror})", "change its mode (chmod) or owner") from None
    return sorted(found, key=lambda path: path.name)  # a comparison of paths takes ten times as long


def walk(root: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like `os.walk`, in order of names; links are followed, and no folder is visited twice."""
    seen = set()
    for name, folders, files in os.walk(root, onerror=onerror, followlinks=True):
        if os.path.realpath(name) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(name))
        folder = Path(name)
        folders[:] = sorted(inner for inner in folders if not is_clutter(folder / inner))
        yield folder, folders, sorted(file for file in files if not is_clutter(folder / file) and _said(folder / file))


def refuse_special(path: Path) -> None:
    """Raise InputError if a path is that of a FIFO, a socket, a device or a loop of links."""
    if kind := _special(path):
        raise InputError(path, f"is {kind}, not a file", "give a regular file")


def _is_listed(folder: Path, entry: "os.DirEntry[str]") -> bool:
    path = folder / entry.name
    return not is_clutter(path) and (_is_plain(entry) or _said(path))


def _is_plain(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file() or entry.is_dir()
    except OSError:  # a loop of links
        return False


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
