"""What the verbs show while they work, on standard error: bars on a terminal, and lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from boxel.cli.console import say, warned
from boxel.escaping import printable
from boxel.wording import time_in_words

EVERY = 30.0  # seconds from line to line


class Interrupted(BaseException):
    """The user has interrupted a command; the message says where, and what is kept."""


class Display:
    """The progress of a verb, as lines: one when a stage begins, one every 30 seconds, and one when it ends.

    Args:
        kept: what an interrupted command keeps, for its message.

    Attributes:
        note: what is said besides of the stage that runs.
        due: whether a line is to be written next time in any case.
    """

    def __init__(self, kept: str = "") -> None:
        self.kept, self.note, self.due, self.state = kept, "", False, ("", 0, 0)
        self.message: Callable[[], str] = self.interrupted  # of an interrupted command
        self.began, self.written = (0.0, 0), 0.0  # when the stage began, and what was done then; the last line

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that so much of a stage is done."""
        before, self.state = self.state, (what, done, total)
        now = time.monotonic()
        if what != before[0]:
            self.began, self.due = (now, done), True
        self.due |= now - self.written >= EVERY or (done >= total and before != self.state)
        self.show()
        if self.due:
            self.written, self.due = now, False

    def show(self) -> None:
        """Write a line if it is due."""
        if self.due:
            what, done, total = self.state
            self.say(f"{what} {done:,}/{total:,}" + "".join(f", {part}" for part in (self._left(), self.note) if part))

    def _left(self) -> str:
        (since, first), (_, done, total) = self.began, self.state
        if not first < done < total:
            return ""
        return f"{time_in_words((time.monotonic() - since) / (done - first) * (total - done))} left"

    def say(self, text: str) -> None:
        """Print a line."""
        say(text, file=sys.stderr)

    def interrupted(self) -> str:
        """Where a command was interrupted, and what is kept."""
        what, done, total = self.state
        where = f" at {what} {done:,}/{total:,}" if what else ""
        again = f"{self.kept}; rerun the command to resume it" if what and self.kept else "rerun the command"
        return f"interrupted{where}; {again}"


class Bars(Display):
    """A bar for each stage, and the note below them."""

    def __init__(self, bars: Any, kept: str = "") -> None:
        super().__init__(kept)
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def show(self) -> None:
        """Update the bar and the note."""
        what, done, total = self.state
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total)
        self.bars.note = self.note
        self.bars.update(self.tasks[what], completed=done, total=total)

    def say(self, text: str) -> None:
        self.bars.console.print(printable(text, lines=True), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bars(kept: str = "") -> Iterator[Display]:
    """The display of a verb; what the package logs meanwhile appears above it.

    Args:
        kept: what an interrupted command keeps, for its message.

    Raises:
        Interrupted: the user interrupts the command.
    """
    from rich.console import Console

    console = Console(stderr=True)
    bars = _bars(console) if console.is_terminal else None
    display = Display(kept) if bars is None else Bars(bars, kept)

    try:
        with messages(display.say), nullcontext() if bars is None else bars:
            yield display
    except KeyboardInterrupt:
        raise Interrupted(display.message()) from None


@contextmanager
def messages(show: Callable[[str], None] | None = None) -> Iterator[None]:
    """Show what the package logs meanwhile; as lines, unless a function is given."""
    say_line = show or Display().say

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            say_line(warned(text) if record.levelno >= logging.WARNING else text)

    handler, log = Lines(logging.INFO), logging.getLogger("boxel")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _bars(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class WithNote(Progress):
        note = ""

        def get_renderables(self) -> Iterator[Any]:
            yield from super().get_renderables()
            if self.note:
                yield Text(printable(self.note))

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return WithNote(*columns, console=console)
