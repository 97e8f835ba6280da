"""Cells in processes of this machine, several at a time within a budget of memory, cores and GPUs."""

import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from boxel.cores import num_cores
from boxel.experiments.cell import attempt, is_done, read_cost, record_failure
from boxel.experiments.executors.base import OnEnd, is_free
from boxel.files import open_to_append
from boxel.plugins import loaded_plugins
from boxel.types import Progress

GIB = 2**30
# What a cell is taken to need until one has ended and was measured.
FIRST_BYTES = 3 * GIB
_POLL = 0.2
# Imported once, by the process that the others are forked from; none of these starts a thread.
_PRELOAD = [
    "boxel.experiments.cell", "boxel.ops.kernels.jit", "boxel.evaluation.kernels", "torch._dynamo", "lightning_fabric",
    "matplotlib.backends.backend_agg", "matplotlib.figure", "scipy.special", "SimpleITK",
]  # fmt: skip


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

        cores, gpus = num_cores(), torch.cuda.device_count()
        self.workers = workers or gpus or cores
        self.memory, self.gpus = memory, gpus
        self.threads = threads or max(1, cores // self.workers)
        self.largest = 0

    def run(self, folders: Sequence[Path], on_end: OnEnd, progress: Progress) -> None:
        waiting, running = deque(folders), dict[int, tuple[BaseProcess, Path]]()
        try:
            while waiting or running:
                while waiting and len(running) < self._at_a_time():
                    folder = waiting.popleft()
                    if is_free(folder):
                        place = min(set(range(self.workers)) - running.keys())
                        running[place] = self._start(folder, place), folder
                ended = {place: pair for place, pair in running.items() if pair[0].exitcode is not None}
                for place, (process, folder) in ended.items():
                    del running[place]
                    if process.exitcode or is_done(folder):  # else another process works on it
                        on_end(folder, self._end(process.exitcode or 0, folder))
                if not ended:
                    time.sleep(_POLL)
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.join()

    def _at_a_time(self) -> int:
        if self.memory is None:
            return self.workers
        return max(1, min(self.workers, self.memory // (self.largest or FIRST_BYTES)))

    def _start(self, folder: Path, place: int) -> BaseProcess:
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        if self.gpus:
            given = os.environ.get("CUDA_VISIBLE_DEVICES")
            devices = given.split(",") if given else [str(index) for index in range(self.gpus)]
            settings["CUDA_VISIBLE_DEVICES"] = devices[place % self.gpus]
        plugins = [str(plugin.path) for plugin in loaded_plugins()]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        process = context.Process(
            target=_run_child, args=(str(folder), plugins, {**os.environ, **settings}, self.threads)
        )
        with _plain_server():
            process.start()
        return process

    def _end(self, exit_status: int, folder: Path) -> str | None:
        if exit_status == 0:
            self.largest = max(self.largest, read_cost(folder).get("peak_bytes", 0))
            return None
        if exit_status < 0:
            return record_failure(
                folder, f"ended by signal {-exit_status}; if memory was short, use fewer --jobs or set --memory"
            )
        error = folder / "error.txt"
        if error.exists():
            return error.read_text().strip()
        return record_failure(folder, f"exit status {exit_status}; see {folder / 'log.txt'}")


@contextmanager
def _plain_server() -> Iterator[None]:
    """The process that others are forked from has one thread, and they import no main module again."""
    main_module, before = sys.modules["__main__"], dict(os.environ)
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module
        os.environ.clear()
        os.environ.update(before)


def _run_child(folder: str, plugins: Sequence[str], environment: Mapping[str, str], threads: int) -> None:
    import torch

    os.environ.clear()
    os.environ.update(environment)
    with open_to_append(Path(folder) / "log.txt") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    torch.set_num_threads(threads)
    sys.exit(1 if attempt(Path(folder), plugins) else 0)
