"""Work shared among threads. Compiled kernels run without Python's lock, so the threads of one process are enough.

Numba's own parallel loops are not used: their pools either abort when two threads use them at once or hang in a
forked process, such as a worker of a data loader.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
import torch

R = TypeVar("R")

_PIECES = 2  # per thread, to wait less for a late one


def share(work: Callable[[int, int], R], begins: np.ndarray | int, least: int) -> list[R]:
    """Run `work(first, last)` for all parts, neighbouring ones together, on as many threads as torch may use.

    Args:
        work: handles the parts from `first` to before `last`.
        begins: where each part begins, and where the last one ends; or the number of equal parts.
        least: the least size of a piece of work, in the units of `begins`.

    Returns:
        The results in order.
    """
    parts, total = (begins, begins) if isinstance(begins, int) else (len(begins) - 1, int(begins[-1]))
    threads = num_threads()
    pieces = min(_PIECES * threads, total // max(1, least), parts)
    if threads < 2 or pieces < 2:
        return [work(0, parts)]
    ends = [total * i // pieces for i in range(1, pieces)]
    cuts = [0, *(ends if isinstance(begins, int) else np.searchsorted(begins, ends).tolist()), parts]
    futures = [_pool(os.getpid(), threads - 1).submit(work, *piece) for piece in itertools.pairwise(cuts)]
    # The calling thread takes pieces as well: on a busy machine the others may be late.
    mine = {i: work(*piece) for i, piece in enumerate(itertools.pairwise(cuts)) if futures[i].cancel()}
    return [mine[i] if i in mine else future.result() for i, future in enumerate(futures)]


def num_threads() -> int:
    """The number of threads torch may use (`OMP_NUM_THREADS`, `torch.set_num_threads`), at most `NUMBA_NUM_THREADS`."""
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(torch.get_num_threads(), int(limit) if limit.isdigit() else 1 << 30)


@cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """One per process: the threads of a pool do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix="boxel-ops")
