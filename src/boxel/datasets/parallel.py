"""Apply a function to many cases in parallel."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

from boxel.types import Progress

T = TypeVar("T")
R = TypeVar("R")


def parallel(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int | None,
    progress: Progress,
    what: str,
) -> Iterator[R]:
    """Like `map`, but over threads; results keep their order.

    Threads suffice because reading, resampling, numpy and compression release the interpreter lock. Unlike processes
    they need no guarded main module, and leave no orphans when the program is killed.

    Args:
        workers: number of threads; 0 works in the calling thread, None takes one per core, at most 8.
        progress: called with `what`, the number of finished items and the number of all items.
    """
    items = list(items)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(8, count) if workers is None else workers
    if workers < 1:
        for done, item in enumerate(items, start=1):
            yield function(item)
            progress(what, done, len(items))
        return
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(function, item) for item in items]
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            progress(what, len(items) - len(pending), len(items))
        yield from (future.result() for future in futures)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
