"""Processes: which machine this is, and whether a process that left something behind still runs."""

import contextlib
import hashlib
import os
import platform
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """Eight digits that are equal for two processes only if they see the same processes.

    Two containers, and a machine before and after it is started anew, have different ones.
    """
    boot = namespace = ""
    with contextlib.suppress(OSError):  # not Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {boot} {namespace}".encode()).hexdigest()[:8]


def started(process: int) -> str:
    """When a process of this machine was started, in the system's own unit; empty where that is not known."""
    return _state(process)[1]


def is_running(process: int, begin: str = "") -> bool:
    """Whether a process of this machine runs.

    Args:
        process: its number.
        begin: the value of `started` that it had: numbers are given again to later processes.
    """
    if os.name == "nt":  # asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # that of another user
        return True
    state, now = _state(process)
    return state not in ("Z", "X") and (not begin or not now or begin == now)


def _state(process: int) -> tuple[str, str]:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
