"""What is wrong with somebody's data, told so that they can mend it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

__all__ = ["Finding", "InputError", "Report", "Severity", "raise_it", "some", "told"]

Severity = Literal["error", "warning", "note"]


class InputError(ValueError):
    """What is wrong with one file of a data set, and what to do about it.

    Attributes:
        severity: an error keeps the case from being used; a warning tells what was left out, a note what was assumed.
    """

    def __init__(self, file: Path, problem: str, remedy: str, case: str = "", severity: Severity = "error") -> None:
        super().__init__(f"{file}: {problem}; {remedy}")
        self.file, self.problem, self.remedy, self.case, self.severity = file, problem, remedy, case, severity

    def of(self, case: str) -> Self:
        """The same, as a problem of this case."""
        return type(self)(self.file, self.problem, self.remedy, case, self.severity)


def told(error: ValueError, case: str = "") -> InputError:
    """What `boxel.io` and `boxel.config` raise, `"file: problem; remedy"`, as a problem of a data set."""
    if isinstance(error, InputError):
        return error
    file, _, message = str(error).partition(": ")
    problem, _, remedy = message.rpartition("; ")
    return InputError(Path(file), problem or message, remedy if problem else "correct it", case)


Report = Callable[[InputError], None]
"""Where a reader hands its problems: `raise_it` stops at the first error, `list.append` collects all."""


def raise_it(problem: InputError) -> None:
    """Stop at the first error."""
    if problem.severity == "error":
        raise problem


@dataclass(frozen=True)
class Finding:
    """One observation: an error keeps the data set from being used, a warning may cost quality."""

    severity: Severity
    case: str
    file: Path
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.problem}; {self.remedy}"


def some(names: Iterable[int | str]) -> str:
    """Up to ten of the names, in order."""
    listed = sorted(names, key=lambda name: (len(str(name)), str(name)))
    return ", ".join(map(str, listed[:10])) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
