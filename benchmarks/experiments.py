"""What the experiment layer costs, and how cells share two cores: `python benchmarks/experiments.py`.

Four folds of a toy data set by `retina_unet_small`: `run_fold` in this process, one after the other, against the same
cells by `boxel experiment run` (a process, locks, hashes, resamples and the table for each); then two cells at a time
with a thread each, within a budget of memory, against one with two threads. Least of the repetitions; nothing else
should run meanwhile.
"""

import argparse
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from boxel.api.fold import run_fold
from boxel.api.training import prepare
from boxel.datasets.formats import open_dataset
from boxel.datasets.toy import make_toy
from boxel.experiments import choose, collect, run
from boxel.experiments.executors import Executor, Processes
from boxel.experiments.sources import DataFolder
from boxel.types import silent

FOLDS = 4  # an even number: with two at a time no core waits for the last one
BUDGET = 6  # GiB for the cells that run at the same time
CELL = 60.0  # seconds of the cells that the overhead is compared with


def least(repetitions: int, measure: Callable[[Path], None]) -> float:
    """Seconds, each time in an empty folder."""
    times = []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            measure(Path(folder))
            times.append(time.perf_counter() - begin)
    return min(times)


class PeakMemory:
    """The most memory in GiB of all processes that this one starts; what they share counts once (Linux)."""

    def __init__(self) -> None:
        self.peak, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak = max(self.peak, sum(map(proportional_kib, descendants(os.getpid()))) / 2**20)


def descendants(process: int) -> set[int]:
    parent = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found = {process}
    while more := {one for one, of in parent.items() if of in found} - found:
        found |= more
    return found - {process}


def proportional_kib(process: int) -> int:
    """Memory of a process in KiB; of pages that n processes share, 1/n."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=1)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {os.cpu_count()} CPUs")
    settings = [f"train.steps={given.steps}", f"train.validate_every={given.steps}", "train.num_workers=0"]
    with tempfile.TemporaryDirectory() as folder:
        data = make_toy(Path(folder) / "data", num_train=50, num_val=0, num_test=0, size=160)
        dataset, source = open_dataset(data), DataFolder(path=str(data))
        grid = choose("cross_validation", source=source, overrides=settings).grid()
        only = [f"fold={fold}" for fold in range(FOLDS)]
        experiments = [grid.cell(values).experiment for values in grid.select(only)]

        def plain(out: Path) -> None:
            prepare(dataset, out / "work", recipe=experiments[0], workers=0)
            for fold, experiment in enumerate(experiments):
                run_fold(dataset, out / str(fold), experiment, fold, silent, work=out / "work")

        def cells(executor: Executor) -> Callable[[Path], None]:
            def layer(out: Path) -> None:
                run(
                    "cross_validation", out / "out", source=source, overrides=settings, only=only, executor=executor
                )  # fmt: skip
                collect(out / "out")

            return layer

        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as warm:  # imports, compiled kernels
            short = experiments[0].override(["train.steps=2", "train.validate_every=2"])
            run_fold(dataset, Path(warm) / "out", short, 0, silent)
        two_at_a_time = Processes(2, memory=BUDGET * 2**30, threads=1)
        seconds = {
            "run_fold, one thread": least(given.repetitions, plain),
            "cells, one at a time, one thread": least(given.repetitions, cells(Processes(1, threads=1))),
        }
        with PeakMemory() as memory:
            seconds["cells, two at a time, one thread each"] = least(given.repetitions, cells(two_at_a_time))
        seconds["cells, one at a time, two threads"] = least(given.repetitions, cells(Processes(1, threads=2)))
    print(f"\n{given.steps} steps{'':32}{'s per cell':>12}")
    for name, total in seconds.items():
        print(f"{name:40}{total / FOLDS:12.2f}")
    direct, alone, two, threads = seconds.values()
    overhead = (alone - direct) / FOLDS
    print(f"\noverhead of the layer: {overhead:.2f} s per cell, {overhead / CELL:.1%} of one of {CELL:.0f} s")
    print(f"two cells at a time: {threads / two:.2f} x the throughput of one with two threads")
    print(f"memory of two at a time: {memory.peak:.2f} GiB at most, of a budget of {BUDGET} GiB")


if __name__ == "__main__":
    main()
