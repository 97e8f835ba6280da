"""How files are written: whole or not at all, and never through a link.

A file is written under a temporary name beside its place and then renamed. The name is drawn at random and must be new,
so nobody can put a link there; a link at the place itself is replaced, and what it leads to stays as it is.
"""

import itertools
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from boxel.processes import is_running, machine

__all__ = [
    "open_to_append",
    "remove_temporaries",
    "temporary_beside",
    "write_bytes",
    "write_new",
    "write_text",
    "writing",
]

SILENCE = 180.0  # seconds without a sign of life, after which a process on another machine counts as ended
_TEMPORARY = re.compile(r"\.boxel-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.tmp(\..*)?")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text that appears whole or not at all; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; folders that are missing are made.

    Raises:
        OSError: names `path` even where the system does not (a full disk).
    """
    with _renamed(Path(path), "") as (_, descriptor), os.fdopen(descriptor, "wb") as file:
        file.write(content)


@contextmanager
def writing(path: Path, suffix: str = "") -> Iterator[Path]:
    """A new, empty file beside `path` that becomes `path` at the end, unless there is an error.

    Args:
        path: the file; folders that are missing are made.
        suffix: how the name of the new file has to end, for libraries that choose a format by it.

    Raises:
        OSError: names `path` even where the system does not (a full disk).
    """
    with _renamed(Path(path), suffix) as (temporary, descriptor):
        os.close(descriptor)
        yield temporary


@contextmanager
def _renamed(path: Path, suffix: str) -> Iterator[tuple[Path, int]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        temporary, descriptor = temporary_beside(path, suffix)
        yield temporary, descriptor
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # a library's own
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def temporary_beside(path: Path, suffix: str = "", mode: int = 0o666) -> tuple[Path, int]:
    """Make a new file in the folder of `path`; returns it and its open descriptor."""
    name = f".boxel-{machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp{suffix}"
    temporary = path.with_name(name)
    return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, mode)


def write_new(path: Path, content: bytes, mode: int = 0o666) -> bool:
    """Write a file unless there is one; of several processes, one alone succeeds, on network file systems too.

    Args:
        path: the file.
        content: what it holds.
        mode: who may read it, before the mask of the process.

    Returns:
        Whether this process wrote it.
    """
    temporary, descriptor = temporary_beside(path, mode=mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return temporary.stat().st_nlink > 1  # a network file system may carry out what it reports as failed
        except OSError:  # a file system without links
            return _open_new(path, content, mode)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _open_new(path: Path, content: bytes, mode: int) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, mode)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return True


def open_to_append(path: Path) -> IO[bytes]:
    """Open a file, which is made if it is missing, to write at its end.

    Raises:
        ValueError: it is a link.
    """
    if path.is_symlink():
        raise ValueError(f"{path}: is a link, and nothing is written through links; remove it")
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK, 0o666), "ab")


def remove_temporaries(folder: Path, *, below: bool = True) -> None:
    """Remove the temporary files that killed processes left in a folder and, `below`, in all folders in it.

    Links are not followed.
    """
    for place, _, names in os.walk(folder) if below else itertools.islice(os.walk(folder), 1):
        for match in filter(None, map(_TEMPORARY.fullmatch, names)):
            file = Path(place, match[0])
            with suppress(OSError):  # another process removes it too, or its own is not ours to remove
                silence = time.time() - file.lstat().st_mtime
                own = match["machine"] == machine()
                if not is_running(int(match["process"])) if own else silence > SILENCE:
                    file.unlink()
