"""A problem in a file that a user handed over."""

from pathlib import Path
from typing import Literal, Self

from boxel.escaping import printable

__all__ = ["InputError", "Severity"]

LONGEST = 1000  # characters of a problem, and of a suggested fix
Severity = Literal["error", "warning", "note"]


class InputError(ValueError):
    """A problem in one file, with a suggested fix.

    Attributes:
        severity: with an error the case cannot be used; a warning says what was left out, a note what was assumed.
    """

    def __init__(
        self, file: Path, problem: str, suggested_fix: str, case: str = "", severity: Severity = "error"
    ) -> None:
        problem, suggested_fix = _shortened(problem), _shortened(suggested_fix)
        super().__init__(printable(f"{file}: {problem}; {suggested_fix}"))
        self.file, self.problem, self.suggested_fix = file, problem, suggested_fix
        self.case, self.severity = case, severity

    def of(self, case: str) -> Self:
        """The same problem, assigned to a case."""
        return type(self)(self.file, self.problem, self.suggested_fix, case, self.severity)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:  # it crosses processes
        return type(self), (self.file, self.problem, self.suggested_fix, self.case, self.severity)


def _shortened(text: str) -> str:
    """The text without its middle if it is very long: what is quoted from a file may be all of it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
