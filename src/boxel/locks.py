"""Locks: which process works on an output folder, or on a part of it.

A lock is a file with the machine, the process and the time. It is made by a link or by an exclusive opening, which
network file systems carry out for one process alone. Its holder touches it three times a minute. A lock is left over,
and the next process takes it over, if its holder was a process of this machine that has ended, or a process of another
one that gave no sign of life for three minutes.
"""

import json
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from boxel.escaping import printable
from boxel.files import SILENCE, temporary_beside, write_new
from boxel.processes import is_running, machine, started

__all__ = ["LOCK", "LockedError", "is_locked", "lock_of", "locked", "remove_left_over_locks"]

LOCK = ".boxel.lock"
BEAT = 20.0  # seconds between signs of life
_POLL = 0.5
_OF_PART = re.compile(r"\.boxel-[0-9a-f]{16}\.lock")


class LockedError(ValueError):
    """Another process works on the folder."""


@dataclass(frozen=True)
class _Holder:
    host: str = "an unknown machine"
    machine: str = ""
    process: int = 0
    started: str = ""
    since: str = ""
    command: str = ""
    token: str = ""


@contextmanager
def locked(folder: Path, command: str, name: str = LOCK, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock in a folder, which is made if it is missing.

    Of the processes of one training, the first holds the locks for all.

    Args:
        folder: where.
        command: what works there, such as `"boxel predict"`, for the message to others.
        name: of the lock; a folder may have several, see `lock_of`.
        patience: how many seconds to wait for another process.

    Raises:
        LockedError: another process holds it; says which, on which machine and since when.
    """
    lock, own = Path(folder) / name, _this_process(command)
    lock.parent.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("LOCAL_RANK", "0")):
        yield
        return
    end = time.monotonic() + patience
    while not write_new(lock, _as_bytes(own)):
        holder = _read(lock)
        if holder is None:
            continue
        if _is_left_over(lock, holder):
            _take_away(lock, holder)
        elif time.monotonic() >= end:
            raise LockedError(_in_words(folder, holder))
        else:
            time.sleep(_POLL)
    over = threading.Event()
    beat = threading.Thread(target=_keep_touching, args=(lock, own, over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        if _read(lock) == own:
            lock.unlink(missing_ok=True)


def is_locked(folder: Path, name: str = LOCK) -> bool:
    """Whether a process holds the lock."""
    lock = Path(folder) / name
    holder = _read(lock)
    return holder is not None and not _is_left_over(lock, holder)


def lock_of(digest: str) -> str:
    """The name of the lock of a part of a folder, such as a case, from a hash of it in 16 digits or more."""
    return f".boxel-{digest[:16]}.lock"


def remove_left_over_locks(folder: Path) -> None:
    """Remove the locks of parts of a folder whose holders were killed."""
    for lock in [Path(entry.path) for entry in os.scandir(folder) if _OF_PART.fullmatch(entry.name)]:
        holder = _read(lock)
        if holder is not None and _is_left_over(lock, holder):
            _take_away(lock, holder)


def _this_process(command: str) -> _Holder:
    process, now = os.getpid(), datetime.now().astimezone().isoformat(" ", "seconds")
    return _Holder(platform.node(), machine(), process, started(process), now, command, secrets.token_hex(8))


def _as_bytes(holder: _Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _read(lock: Path) -> _Holder | None:
    """Who holds the lock; None if there is none."""
    if not os.path.lexists(lock):
        return None
    try:
        values = json.loads(lock.read_bytes())
        return _Holder(**{key: type(getattr(_Holder, key))(value) for key, value in values.items()})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # not written yet, or none of ours
        return _Holder() if os.path.lexists(lock) else None


def _is_left_over(lock: Path, holder: _Holder) -> bool:
    if holder.machine == machine():
        return not is_running(holder.process, holder.started)
    try:
        return _now(lock) - lock.lstat().st_mtime > SILENCE
    except FileNotFoundError:
        return False


def _now(lock: Path) -> float:
    """The time by the clock of the file system, which is that of the lock."""
    temporary, descriptor = temporary_beside(lock)
    os.close(descriptor)
    try:
        return temporary.stat().st_mtime
    finally:
        temporary.unlink(missing_ok=True)


def _take_away(lock: Path, holder: _Holder) -> None:
    """Remove a lock that is left over, but not the one that a faster process has made since."""
    guard = lock.with_name(f"{lock.name}.taken")
    if not write_new(guard, _as_bytes(_this_process(""))):
        other = _read(guard)
        if other is not None and _is_left_over(guard, other):
            guard.unlink(missing_ok=True)
        time.sleep(0.01)
        return
    try:
        if _read(lock) == holder:
            lock.unlink(missing_ok=True)
    finally:
        guard.unlink(missing_ok=True)


def _keep_touching(lock: Path, own: _Holder, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):
            if _read(lock) == own:
                os.utime(lock)


def _in_words(folder: Path, holder: _Holder) -> str:
    by = f"`{printable(holder.command)}`" if holder.command else "another process"
    where = f"process {holder.process} on {printable(holder.host)}" if holder.process else printable(holder.host)
    since = f" since {printable(holder.since)}" if holder.since else ""
    elsewhere = holder.machine != machine()
    free = f" (if it was killed, the folder is free {SILENCE / 60:.0f} minutes later)" if elsewhere else ""
    return f"{folder}: in use by {by} ({where}){since}; wait until it ends{free}, or choose another folder"
