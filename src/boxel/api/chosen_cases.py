"""Which of the images `boxel predict` takes: a part of the run's fold, some by their names, or a shard of all."""

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from boxel.api.run import RunSplit
from boxel.config import did_you_mean
from boxel.datasets.problems import some
from boxel.wording import counted


def slice_of_shard(shard: str, formats: Sequence[str]) -> slice:
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


def chosen_cases(
    cases: dict[str, list[Path]], runs: Sequence[Path], part: str, only: Collection[str] | None
) -> dict[str, list[Path]]:
    """The cases of one part of the first run's fold; a warning if any run was trained on some of the chosen."""
    splits = [RunSplit.load(run / "split.json") for run in runs]
    parts = {"train": splits[0].train, "val": splits[0].val, "test": splits[0].test}
    if part != "all":
        if part not in parts:
            raise ValueError(f"part {part!r}{did_you_mean(part, [*parts, 'all'])}")
        lost = sorted(set(parts[part]) - cases.keys())
        if lost or not parts[part]:
            what = f"case {lost[0]!r} is not among the images" if lost else f"its fold has no {part} cases"
            raise ValueError(f"{runs[0]}: {what}; give the data set that the run was trained on, or leave out --part")
        cases = {case: cases[case] for case in parts[part]}
    if only is not None:
        if isinstance(only, str) or not only:
            raise ValueError(f"cases is {only!r}; give a list of one or more names, or leave it out")
        if unknown := sorted(set(only) - cases.keys()):
            which = "the images" if part == "all" else f"the {part} cases of {runs[0]}"
            raise ValueError(f"case {unknown[0]!r} is not among {which}{did_you_mean(unknown[0], cases)}")
        cases = {case: cases[case] for case in sorted(only)}
    for run, split in zip(runs, splits, strict=True):
        seen = sorted(cases.keys() & set(split.train))
        if seen and (part == "all" or run != runs[0]):
            advice = ", --part test leaves them out" if len(runs) == 1 else "; leave this run out, or these images"
            which = "the run" if len(runs) == 1 else str(run)
            logging.getLogger("boxel").warning(
                f"{len(seen)} of {counted(len(cases), 'image')} may be among those {which} was trained on: "
                f"{some(seen)}; metrics on training images are optimistic{advice}"
            )
    return cases
