"""Cells as tasks of a Ray cluster. Needs `boxel[ray]`."""

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boxel.api.ray_cluster import PATIENCE, TRIES, connect, divide, first_line
from boxel.experiments.cell import is_done, record_failure
from boxel.experiments.executors.base import OnEnd, is_free
from boxel.experiments.executors.elsewhere import carry_out, plugin_files
from boxel.locks import is_locked
from boxel.types import Progress


class RayTasks:
    """One Ray task per cell, in a worker process of its own; paths travel, everything else is on shared storage.

    A task whose worker or machine is lost is run again, three times in all, and continues from the last saved step of
    its cell.

    Args:
        address: of the cluster, see `boxel.api.ray_cluster.connect`.
        workers: cells at a time, which share the GPUs and cores of the cluster; None: one for each GPU, or for each
            core where there is none.
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        self.address, self.chosen, self.workers = address, workers, workers or 1

    def run(self, folders: Sequence[Path], on_end: OnEnd, progress: Progress) -> None:
        if not folders:
            return
        with connect(self.address) as ray:
            resources = ray.cluster_resources()
            number = self.chosen or int(resources.get("GPU", 0)) or max(1, int(resources.get("CPU", 1)))
            self.workers, threads, reserved = divide(resources, number)
            # A process per cell: its peak memory is the cell's, and nothing is left over for the next one.
            task = ray.remote(**reserved, max_retries=TRIES - 1, max_calls=1)(carry_out)
            waiting, running, warned = deque(folders), dict[Any, Path](), False
            while waiting or running:
                while waiting and len(running) < self.workers:
                    if is_free(folder := waiting.popleft()):
                        running[task.remote(folder.resolve(), plugin_files(), threads)] = folder
                if not running:
                    break
                ended, _ = ray.wait(list(running), num_returns=1, timeout=PATIENCE)
                for reference in ended:
                    folder = running.pop(reference)
                    reason = _reason(ray, reference)
                    if reason:
                        record_failure(folder, reason)
                    if reason or is_done(folder):  # otherwise another process works on it
                        on_end(folder, reason)
                if not (ended or warned or any(map(is_locked, running.values()))):
                    warned = True
                    logging.getLogger("boxel").warning(
                        f"no cell has started for {PATIENCE} s: the cluster has no free GPU or cores; waiting"
                    )


def _reason(ray: Any, reference: Any) -> str | None:
    try:
        reason: str | None = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return f"the worker cannot run it ({first_line(error.cause)}); all machines need the same Boxel"
    except ray.exceptions.RayError as error:
        return f"its worker was lost {TRIES} times ({first_line(error)}); is its memory large enough?"
    return reason
