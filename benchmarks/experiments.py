"""What the experiment layer costs, and how cells share two cores: `python benchmarks/experiments.py`.

Five folds of a toy data set by `retina_unet_small`: `run_fold` in this process, one after the other, against the same
cells by `boxel experiment run` (a process, locks, hashes, resamples and the table for each); then two cells at a time
with a thread each against one with two threads. Least of the repetitions; nothing else should run meanwhile.
"""

import argparse
import os
import platform
import subprocess
import tempfile
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

FOLDS = 5
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
        experiments = [grid.cell(values).experiment for values in grid]

        def plain(out: Path) -> None:
            prepare(dataset, out / "work", recipe=experiments[0], workers=0)
            for fold, experiment in enumerate(experiments):
                run_fold(dataset, out / str(fold), experiment, fold, silent, work=out / "work")

        def cells(executor: Executor) -> Callable[[Path], None]:
            def layer(out: Path) -> None:
                run("cross_validation", out / "out", source=source, overrides=settings, executor=executor)
                collect(out / "out")

            return layer

        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as warm:  # imports, compiled kernels
            short = experiments[0].override(["train.steps=2", "train.validate_every=2"])
            run_fold(dataset, Path(warm) / "out", short, 0, silent)
        seconds = {
            "run_fold, one thread": least(given.repetitions, plain),
            "cells, one at a time, one thread": least(given.repetitions, cells(Processes(1, threads=1))),
            "cells, two at a time, one thread each": least(given.repetitions, cells(Processes(2, threads=1))),
            "cells, one at a time, two threads": least(given.repetitions, cells(Processes(1, threads=2))),
        }
    print(f"\n{given.steps} steps{'':32}{'s per cell':>12}")
    for name, total in seconds.items():
        print(f"{name:40}{total / FOLDS:12.2f}")
    direct, alone, two, threads = seconds.values()
    overhead = (alone - direct) / FOLDS
    print(f"\noverhead of the layer: {overhead:.2f} s per cell, {overhead / CELL:.1%} of one of {CELL:.0f} s")
    print(f"two cells at a time: {threads / two:.2f} x the throughput of one with two threads")


if __name__ == "__main__":
    main()
