"""Apply a function to many cases in parallel."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from boxel.cores import num_cores
from boxel.types import Progress

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 16  # items per worker that are begun before the first of them is finished


def parallel(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int | None,
    progress: Progress,
    what: str,
) -> Iterator[R]:
    """Like `map`, but over threads; results keep their order, and few of them are held at a time.

    Threads suffice because reading, resampling, numpy and compression release the interpreter lock. Unlike processes
    they need no guarded main module, and leave no orphans when the program is killed.

    Args:
        workers: number of threads; 0 works in the calling thread, None takes one per core, at most 8.
        progress: called with `what`, the number of finished items and the number of all items.
    """
    items = list(items)
    workers = min(8, num_cores()) if workers is None else workers
    if workers < 1:
        for done, item in enumerate(items, start=1):
            result = function(item)
            progress(what, done, len(items))
            yield result
        return
    rest, begun = iter(items), deque[Future[R]]()
    pool = ThreadPoolExecutor(workers)
    try:
        for done in range(1, len(items) + 1):
            begun.extend(pool.submit(function, item) for item in islice(rest, AHEAD * workers - len(begun)))
            result = begun.popleft().result()
            progress(what, done, len(items))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
