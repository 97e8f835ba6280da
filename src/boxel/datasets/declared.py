"""What annotations declare as texts or numbers: the size of the image that they were made on, and flags."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from boxel.datasets.names import as_id
from boxel.datasets.problems import InputError, Report

__all__ = ["FLAGS", "declared_size", "fits", "flag", "report_scores"]

FLAGS = {
    **dict.fromkeys(("", "0", "0.0", "false", "f", "no", "n", "nein", "falsch", "none", "unspecified"), False),
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y", "ja", "wahr"), True),
}


def declared_size(height: object, width: object, file: Path, what: str) -> tuple[int | None, int | None] | None:
    """Rows and columns of the image that was annotated; 0 and nothing are unknown.

    Raises:
        InputError: one of them is not a whole number; `what` names its image.
    """
    sides: list[int | None] = []
    for name, value in (("height", height), ("width", width)):
        side = 0 if value in (None, "") else as_id(value)
        if not isinstance(side, int) or side < 0:
            problem = f"the {name} of {what} is {str(value)[:80]!r}"
            raise InputError(file, problem, "write the whole number of pixels that the image file has")
        sides.append(side or None)
    return (sides[0], sides[1]) if any(sides) else None


def fits(declared: Sequence[int | None] | None, shape: Sequence[int]) -> bool:
    """Whether an image has the declared size, as far as that is known."""
    if declared is None:
        return True
    return len(declared) == len(shape) and all(own in (None, side) for own, side in zip(declared, shape, strict=True))


def flag(value: object, file: Path, what: str) -> bool:
    """Whether a flag is set that may be a truth value, a number or a text; nothing is False.

    Raises:
        InputError: it is something else; `what` names the flag.
    """
    text = str("" if value is None else value).strip().lower()
    if text not in FLAGS:
        raise InputError(file, f"{what} is {text[:80]!r}", "write 0 or 1")
    return FLAGS[text]


def report_scores(values: Iterable[object], file: Path, where: str, report: Report) -> None:
    """Warn of annotations that have scores in fractions, which predictions have and ground truth does not."""
    scores = []
    for value in values:
        try:
            scores.append(float(str(value)))
        except ValueError:  # nothing, or words
            continue
    scores = [score for score in scores if score == score]  # nan is nothing
    if all(0 <= score <= 1 for score in scores) and any(0 < score < 1 for score in scores):
        problem = f"{where} from {min(scores):g} to {max(scores):g}: these look like predictions, not ground truth"
        fix = "train and evaluate on annotations; remove the scores if people drew or corrected these"
        report(InputError(file, problem, fix, severity="warning"))
