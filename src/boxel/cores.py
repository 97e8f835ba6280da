"""Cores: how many this process may use, and how the threads of its libraries wait for each other."""

import logging
import math
import os
import sys
from pathlib import Path

# What says how threads of OpenMP (torch, oneDNN, MKL) wait, and how many threads OpenMP, OpenBLAS and ITK start.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
COUNTS = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def share_cores(root: Path = Path("/")) -> None:
    """Let the threads of libraries sleep while they wait, and be as many as the cores that this process may use.

    The libraries read these environment variables when they are loaded; those that the user has set stay as they are.
    If torch is loaded already, only its number of threads can still be lowered. benchmarks/contention.py measures the
    gain.

    Args:
        root: of the file system that shows the control groups.
    """
    if os.environ.keys().isdisjoint(WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    cores = num_cores(root)
    if cores < _bound_to():  # else the libraries count right
        if "torch" in sys.modules and "OMP_NUM_THREADS" not in os.environ:
            torch = sys.modules["torch"]
            torch.set_num_threads(min(cores, torch.get_num_threads()))
        for name in COUNTS:
            os.environ.setdefault(name, str(cores))


def num_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use: those it is bound to, at most the quota of its container, rounded up."""
    return max(1, math.ceil(min(_bound_to(), _quota(root))))


def warn_if_busy(threads: int, root: Path = Path("/")) -> None:
    """Log that one thread would cost less, where this one has waited for a core for a quarter of its time or more.

    Nothing but the user may change the number: it changes the last digits of a training. Only Linux says how long.
    """
    ran, waited = map(int, (_text(root / "proc/thread-self/schedstat") or "1 0").split()[:2])
    if threads > 1 and 3 * waited >= ran:
        logging.getLogger("boxel").warning(
            f"other programs keep the cores busy: this one waited for a core for {waited / (ran + waited):.0%} of its "
            f"time; with OMP_NUM_THREADS=1 a step costs less CPU time than on {threads} threads"
        )


def _bound_to() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(root: Path) -> float:
    """The least quota of the control groups of this process (version 1 or 2) and those around them, in cores."""
    least = math.inf
    for line in _text(root / "proc/self/cgroup").splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        group = top / path.lstrip("/")  # a container may show only the top
        for folder in (group, *group.parents[: len(group.parts) - len(top.parts)]):
            quota = _text(folder / "cpu.max") or " ".join(
                _text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")
            )
            granted, _, period = quota.partition(" ")
            if granted.isdigit() and period.isdigit():  # neither "max" nor -1
                least = min(least, int(granted) / int(period))
    return least


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
