"""Problems in a data set, with suggested fixes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from boxel.escaping import printable

__all__ = ["Finding", "InputError", "Report", "Severity", "as_input_error", "raise_it", "some"]

Severity = Literal["error", "warning", "note"]


class InputError(ValueError):
    """A problem in one file of a data set, with a suggested fix.

    Attributes:
        severity: with an error the case cannot be used; a warning says what was left out, a note what was assumed.
    """

    def __init__(
        self, file: Path, problem: str, suggested_fix: str, case: str = "", severity: Severity = "error"
    ) -> None:
        super().__init__(printable(f"{file}: {problem}; {suggested_fix}"))
        self.file, self.problem, self.suggested_fix = file, problem, suggested_fix
        self.case, self.severity = case, severity

    def of(self, case: str) -> Self:
        """The same problem, assigned to a case."""
        return type(self)(self.file, self.problem, self.suggested_fix, case, self.severity)


def as_input_error(error: ValueError, case: str = "") -> InputError:
    """An error of `boxel.io` or `boxel.config`, whose message is `"file: problem; suggested fix"`, as `InputError`."""
    if isinstance(error, InputError):
        return error
    file, _, message = str(error).partition(": ")
    problem, _, suggested_fix = message.rpartition("; ")
    return InputError(Path(file), problem or message, suggested_fix if problem else "correct it", case)


Report = Callable[[InputError], None]
"""Takes the problems that a reader meets: `raise_it` stops at the first error, `list.append` collects all."""


def raise_it(problem: InputError) -> None:
    """Raise an error; ignore warnings and notes."""
    if problem.severity == "error":
        raise problem


@dataclass(frozen=True)
class Finding:
    """A problem that `check` reports: with an error the data set cannot be used, a warning may cost quality."""

    severity: Severity
    case: str
    file: Path
    problem: str
    suggested_fix: str

    @classmethod
    def of(cls, problem: InputError, case: str = "") -> Self:
        """The finding of a problem that a reader reported."""
        return cls(problem.severity, case or problem.case, problem.file, problem.problem, problem.suggested_fix)

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.problem}; {self.suggested_fix}"


def some(names: Iterable[int | str]) -> str:
    """Up to ten of the names, in order, and how many more there are."""
    listed = sorted(names, key=lambda name: (len(str(name)), str(name)))
    return ", ".join(map(str, listed[:10])) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
