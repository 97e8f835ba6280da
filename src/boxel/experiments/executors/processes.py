"""Cells in processes of this machine, several at a time within a budget of memory, cores and GPUs."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from boxel.config import read_json
from boxel.experiments.cell import record_failure
from boxel.experiments.executors.base import OnEnd, is_free
from boxel.plugins import loaded_plugins
from boxel.types import Progress

GIB = 2**30
# What a cell is taken to need until one has ended and was measured.
FIRST_BYTES = 3 * GIB
_POLL = 0.2


class Processes:
    """Each cell in a process of its own, so that a crash or a lack of memory ends one cell only.

    Two cells with one thread each are faster than one with two threads, so every process has its share of the cores
    (docs/results/experiments.md).

    Args:
        workers: cells at a time; None: one for each GPU, or for each core where there is none.
        memory: budget in bytes; as many cells run as fit, by the largest one that has ended, and always one.
        threads: per process; None shares the cores.
    """

    def __init__(self, workers: int | None = None, memory: int | None = None, threads: int | None = None) -> None:
        import torch

        cores, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
        self.workers = workers or gpus or cores
        self.memory, self.gpus = memory, gpus
        self.threads = threads or max(1, cores // self.workers)
        self.largest = 0

    def run(self, folders: Sequence[Path], on_end: OnEnd, progress: Progress) -> None:
        waiting, running = deque(folders), dict[int, tuple[subprocess.Popen[bytes], Path]]()
        try:
            while waiting or running:
                while waiting and len(running) < self._at_a_time():
                    folder = waiting.popleft()
                    if is_free(folder):
                        place = min(set(range(self.workers)) - running.keys())
                        running[place] = self._start(folder, place), folder
                ended = {place: pair for place, pair in running.items() if pair[0].poll() is not None}
                for place, (process, folder) in ended.items():
                    del running[place]
                    on_end(folder, self._end(process, folder))
                if not ended:
                    time.sleep(_POLL)
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait()

    def _at_a_time(self) -> int:
        if self.memory is None:
            return self.workers
        return max(1, min(self.workers, self.memory // (self.largest or FIRST_BYTES)))

    def _start(self, folder: Path, place: int) -> "subprocess.Popen[bytes]":
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        if self.gpus:
            settings["CUDA_VISIBLE_DEVICES"] = str(place % self.gpus)
        plugins = [str(plugin.path) for plugin in loaded_plugins()]
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "boxel.experiments.cell", str(folder), *plugins],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | settings,
            )  # fmt: skip

    def _end(self, process: "subprocess.Popen[bytes]", folder: Path) -> str | None:
        if process.returncode == 0:
            self.largest = max(self.largest, read_json(folder / "done.json")["peak_bytes"])
            return None
        if process.returncode < 0:
            return record_failure(
                folder, f"ended by signal {-process.returncode}; if memory was short, use fewer --jobs or set --memory"
            )
        error = folder / "error.txt"
        if error.exists():
            return error.read_text().strip()
        return record_failure(folder, f"exit status {process.returncode}; see {folder / 'log.txt'}")
