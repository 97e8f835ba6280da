"""Apply a function to many cases in parallel, to small ones a batch at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from boxel.cores import num_cores
from boxel.datasets.cases import Case
from boxel.io.decoding import ahead, is_small
from boxel.types import Progress

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 16  # items per worker that are begun before the first of them is finished
BATCH = 32  # small cases


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
    yield from _in_order(lambda batch: map(function, batch), [[item] for item in items], workers, progress, what)


def parallel_cases(
    function: Callable[[Case], R], cases: Sequence[Case], workers: int | None, progress: Progress, what: str
) -> Iterator[R]:
    """`parallel`, for a function that reads cases: the pictures of small ones are decoded many at a time."""

    def each(batch: Sequence[Case]) -> Iterator[R]:
        with ahead(wanted for case in batch if batch[1:] for wanted in _pictures(case)):
            yield from map(function, batch)

    yield from _in_order(each, _batches(cases, _threads(workers)), workers, progress, what)


def _batches(cases: Sequence[Case], threads: int) -> list[list[Case]]:
    """The cases in order: small ones up to BATCH at a time, so that all threads have some, any other alone."""
    most = min(BATCH, max(1, len(cases) // (2 * max(threads, 1))))
    batches: list[list[Case]] = []
    room = 0  # in the last batch
    for case in cases:
        is_plain = case.opener is None and all(is_small(path) for path, _ in _pictures(case))
        if is_plain and room:
            batches[-1].append(case)
            room -= 1
        else:
            batches.append([case])
            room = most - 1 if is_plain else 0
    return batches


def _pictures(case: Case) -> list[tuple[Path, bool]]:
    """The pictures that a case is read from, and whether each has colours; not those of its `annotate`."""
    return [*((path, True) for path in case.channels), *([(case.label_map, False)] if case.label_map else [])]


def _threads(workers: int | None) -> int:
    return min(8, num_cores()) if workers is None else workers


def _in_order(
    function: Callable[[Sequence[T]], Iterable[R]],
    batches: Sequence[Sequence[T]],
    workers: int | None,
    progress: Progress,
    what: str,
) -> Iterator[R]:
    """The results of all batches, one after the other; see `parallel`."""
    total, done = sum(map(len, batches)), 0
    if total:
        progress(what, done, total)
    for results in _begun(lambda batch: list(function(batch)), batches, _threads(workers)):
        for result in results:
            progress(what, done := done + 1, total)
            yield result


def _begun(function: Callable[[Sequence[T]], R], batches: Sequence[Sequence[T]], threads: int) -> Iterator[R]:
    """Like `map`, over threads; few batches are begun before the first of them is finished."""
    if threads < 1:
        yield from map(function, batches)
        return
    rest, begun, held = iter(batches), deque[tuple[int, Future[R]]](), 0
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            while len(begun) < 2 * threads or held < AHEAD * threads:
                batch = next(rest, None)
                if batch is None:
                    break
                begun.append((len(batch), pool.submit(function, batch)))
                held += len(batch)
            if not begun:
                return
            size, first = begun.popleft()
            yield first.result()
            held -= size
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
