"""Cells as jobs of a SLURM array, by submitit. Needs `boxel[slurm]`."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxel.config import did_you_mean
from boxel.experiments.cell import is_done, record_failure
from boxel.experiments.executors.base import OnEnd, is_free
from boxel.experiments.executors.elsewhere import carry_out, plugin_files
from boxel.types import Progress

# What users choose, the name that submitit has for it, and its type.
OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "partition": ("slurm_partition", str),
    "account": ("slurm_account", str),
    "qos": ("slurm_qos", str),
    "constraint": ("slurm_constraint", str),
    "timeout_min": ("timeout_min", int),
    "mem_gb": ("mem_gb", float),
    "cpus": ("cpus_per_task", int),
    "gpus": ("gpus_per_node", int),
    "cluster": ("cluster", str),
}
_AT_ONCE = 1000  # jobs of one array; SLURM's own limit is 1001 unless it was raised
_POLL = 1.0


@dataclass(frozen=True)
class _Job:
    """One cell; SLURM runs it again after a time limit or a preemption, since it has a `checkpoint`."""

    folder: Path
    plugins: tuple[Path, ...]
    threads: int

    def __call__(self) -> str | None:
        return carry_out(self.folder, self.plugins, self.threads)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slurm:
    """A job array with one job per cell. Interrupting this process leaves the jobs in the queue.

    A job that reaches its time limit or is preempted is queued again and continues from its last saved step. Files of
    submitit are in `OUT/slurm`.

    Args:
        options: each `"KEY=VALUE"`, with the keys of `OPTIONS`: `cpus` and `gpus` are per cell, `timeout_min` is 240
            by default, and `cluster=local` runs the jobs in this machine, without SLURM.
        workers: cells at a time; None leaves it to SLURM.

    Raises:
        ValueError: an unknown key, or a value that is no number where one is needed.
    """

    def __init__(self, options: Sequence[str] = (), workers: int | None = None) -> None:
        self.workers = workers or 1
        chosen = dict(_parse(option) for option in options)
        self.cluster = chosen.pop("cluster", "slurm")
        self.parameters: dict[str, Any] = {"name": "boxel", "timeout_min": 240, "cpus_per_task": 1, **chosen}
        if workers:
            self.parameters["slurm_array_parallelism"] = workers

    def run(self, folders: Sequence[Path], on_end: OnEnd, progress: Progress) -> None:
        free = list(filter(is_free, folders))
        if not free:
            return
        executor = self._open(free[0].parent.parent / "slurm")
        plugins, jobs = plugin_files(), dict[Path, Any]()
        for first in range(0, len(free), _AT_ONCE):
            with executor.batch():
                for folder in free[first : first + _AT_ONCE]:
                    job = _Job(folder.resolve(), plugins, self.parameters["cpus_per_task"])
                    jobs[folder] = executor.submit(job)
        logging.getLogger("boxel").info(
            f"{len(jobs)} cells submitted, the first as job {jobs[free[0]].job_id}; they go on if this process ends"
        )
        while jobs:
            for folder, job in list(jobs.items()):
                if job.done():
                    del jobs[folder]
                    reason = _reason(job)
                    if reason:
                        record_failure(folder, reason)
                    if reason or is_done(folder):  # otherwise another process works on it
                        on_end(folder, reason)
            time.sleep(_POLL if jobs else 0)

    def _open(self, folder: Path) -> Any:
        try:
            import submitit
        except ImportError:
            raise ValueError(
                "--slurm needs submitit, which is not installed; install it with pip install 'boxel[slurm]'"
            ) from None
        try:
            executor = submitit.AutoExecutor(folder.resolve(), cluster=self.cluster)
            executor.update_parameters(**self.parameters)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"--slurm cluster={self.cluster}: cannot be used here ({error}); run it where `sbatch` works, "
                "or try it with cluster=local"
            ) from None
        return executor


def _parse(option: str) -> tuple[str, Any]:
    key, _, value = option.partition("=")
    if key not in OPTIONS:
        raise ValueError(f"--slurm {option}: unknown key {key!r}{did_you_mean(key, OPTIONS)}")
    name, kind = OPTIONS[key]
    try:
        return name, kind(value)
    except ValueError:
        raise ValueError(f"--slurm {option}: {value!r} is no number; write, for example, {key}=8") from None


def _reason(job: Any) -> str | None:
    """Why a job failed; the cell's own reason, or that of SLURM."""
    try:
        reason: str | None = job.result()
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"job {job.job_id} ended without a result: {line}; see {job.paths.stderr}"
    return reason
