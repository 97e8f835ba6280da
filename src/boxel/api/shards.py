"""Parts of the cases that are predicted at the same time."""

import re
from collections.abc import Sequence

__all__ = ["part_of"]


def part_of(shard: str, formats: Sequence[str]) -> slice:
    """Which of the sorted cases belong to the shard `i/n`.

    Raises:
        ValueError: not of this form, or combined with formats.
    """
    if not shard:
        return slice(None)
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, number = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= number:
        raise ValueError(f"--shard {shard}: must be i/n with i from 1 to n, such as 1/4")
    if formats:
        raise ValueError(
            f"--to {formats[0]}: formats are written when all cases are done, and --shard predicts some; leave it out, "
            f"and run the command without --shard when all are done, or `boxel convert --to {formats[0]}`"
        )
    return slice(index - 1, None, number)
