"""What an executor does, and the plainest one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from boxel.experiments.cell import is_done, record_failure, run_cell
from boxel.locks import is_locked
from boxel.types import Progress

# Called with the folder of a cell when it has ended, and the reason if it failed.
OnEnd = Callable[[Path, str | None], None]


class Executor(Protocol):
    """Carries out cells, each the folder of a `cell.json`; one that fails does not stop the others."""

    workers: int

    def run(self, folders: Sequence[Path], on_end: OnEnd, progress: Progress) -> None:
        """Return when all have ended; `on_end` is called in this process."""
        ...


class Here:
    """One cell after the other in this process."""

    workers = 1

    def run(self, folders: Sequence[Path], on_end: OnEnd, progress: Progress) -> None:
        for folder in filter(is_free, folders):
            try:
                run_cell(folder, progress)
            except Exception as error:
                on_end(folder, record_failure(folder, error))
            else:
                if is_done(folder):  # else another process works on it
                    on_end(folder, None)


def is_free(folder: Path) -> bool:
    """Whether the cell is neither done nor, at the moment, the work of another process."""
    return not is_done(folder) and not is_locked(folder)
