"""Check a data set: read every case once and report problems, with suggested fixes."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats import open_dataset
from boxel.datasets.parallel import parallel_cases
from boxel.datasets.problems import Finding, InputError, some
from boxel.datasets.quality.rules import ACROSS, MANY, Look, look
from boxel.escaping import printable
from boxel.types import Progress, silent
from boxel.wording import counted

__all__ = ["Examination", "Finding", "check", "examine"]

SEVERITIES = ("error", "warning", "note")
# How a problem names its objects; different in each case.
_WHICH = re.compile(r"^(object \d+ is|\d+ objects \([\d, .]+\) are) ")


@dataclass(frozen=True)
class Examination:
    """The result of `examine`.

    Attributes:
        findings: the problems, errors first.
        dataset: None if it could not be opened.
        objects: number of objects per class, in the cases that can be used.
        looks: what was seen of each case that can be read, in the order of the data set.
    """

    findings: list[Finding]
    dataset: Dataset | None = None
    objects: Mapping[str, int] = field(default_factory=dict)
    looks: Sequence[Look] = ()

    @property
    def summary(self) -> str:
        """One line: layout, cases, objects per class."""
        if self.dataset is None:
            return "the data set cannot be opened"
        data = self.dataset
        parts = [("training", len(data.train)), ("test", len(data.test))]
        split = ", ".join(f"{count} {name}" for name, count in parts if count)
        most = sorted(self.objects.items(), key=lambda item: -item[1])
        classes = ", ".join(f"{printable(name)} {count}" for name, count in most[:8]) + (
            ", ..." if len(most) > 8 else ""
        )
        channels, cases = counted(len(data.channels), "channel"), counted(len(data.cases), "case")
        objects = counted(sum(self.objects.values()), "object")
        layout = f"{data.format} layout, {data.ndim} axes, {channels}"
        if not data.cases:
            return f"{printable(data.name)} ({data.format} layout): no cases"
        return f"{printable(data.name)} ({layout}): {cases} ({split}), {objects} ({classes})"

    def rows(self) -> list[dict[str, str]]:
        """What was taken for what: for each case its files, split, size, spacing and objects.

        Files are relative to the folder of the data set. What is known only from an image is empty if that cannot be
        read.
        """
        if self.dataset is None:
            return []
        seen, folds = {look.case.id: look for look in self.looks}, self.dataset.splits or ()
        held_out = set(folds[0].get("val", ())) if len(folds) == 1 else set()
        return [
            _row(case, seen.get(case.id), self.dataset, "val" if case.id in held_out else case.split)
            for case in self.dataset.cases
        ]


def _merged(findings: Sequence[Finding], root: Path) -> list[Finding]:
    """The findings, where those that say the same of more than MANY cases are one."""
    alike: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        alike[finding.severity, _WHICH.sub("objects are ", finding.problem), finding.suggested_fix].append(finding)
    merged = []
    for (_, shared, _), same in alike.items():
        cases = {finding.case for finding in same}
        if len(cases) > MANY:
            problem = f"{counted(len(cases), 'case')}: {shared} ({some(cases)})"
            same = [replace(same[0], case="", file=root, problem=problem)]
        merged += same
    return merged


def _row(case: Case, seen: Look | None, dataset: Dataset, split: str) -> dict[str, str]:
    annotations = dict.fromkeys([case.file, *(case.annotate.files if case.annotate else ())])
    counts = Counter(dataset.classes[label] for label in (seen or case).labels if 0 <= label < len(dataset.classes))
    objects = ", ".join(f"{counts[name]} {name}" for name in dataset.classes if counts[name])
    return {
        "case": case.id,
        "image": _relative(case.channels, dataset.root),
        "annotation": _relative([file for file in annotations if file not in case.channels], dataset.root),
        "split": split,
        "size": " x ".join(map(str, seen.shape)) if seen else "",
        "spacing": " x ".join(f"{value:.3g}" for value in seen.spacing) if seen else "",
        "objects": objects or ("none" if seen else ""),
    }


def _relative(files: Sequence[Path], root: Path) -> str:
    """The files, relative to `root`; of many the first two."""
    names = [str(file.relative_to(root) if file.is_relative_to(root) else file) for file in files]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def check(
    path: Path,
    *,
    format: str = "",  # noqa: A002
    options: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Finding]:
    """Problems of the data set at `path` with suggested fixes, errors first.

    Args:
        path: folder of the data set.
        format: name of the layout; it is recognised if empty.
        options: settings of the layout, each `"key=value"`.
        workers: parallel workers (0: calling thread, None: one per core).
        progress: called with the stage, the number of finished cases and the number of all cases.

    Raises:
        ValueError: there is no data set at `path`.
    """
    return examine(path, format=format, options=options, workers=workers, progress=progress).findings


def examine(
    path: Path,
    *,
    format: str = "",  # noqa: A002
    options: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress = silent,
) -> Examination:
    """Like `check`, but also returns the data set and its object counts."""
    problems: list[InputError] = []
    try:
        dataset = open_dataset(path, problems.append, format=format, options=options)
    except InputError as problem:
        return Examination([Finding.of(problem) for problem in (*problems, problem)])
    broken = {problem.case for problem in problems if problem.severity == "error"}
    cases = [case for case in dataset.cases if case.id not in broken]
    with_image = [case for case in cases if case.channels]
    looks = list(parallel_cases(lambda case: look(case, dataset), with_image, workers, progress, "checking"))
    findings = [Finding.of(problem) for problem in problems]
    for seen in looks:
        findings.extend(seen.findings)
    readable = [seen for seen in looks if seen.digest]
    for rule in ACROSS if with_image else ():
        findings.extend(rule(dataset, readable))
    labels = [label for seen in readable for label in seen.labels]
    labels += [label for case in cases if not case.channels for label in case.labels]
    counts = Counter(dataset.classes[label] for label in labels)
    findings = _merged(findings, dataset.root)
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), f.case, str(f.file), f.problem))
    return Examination(findings, dataset, {name: counts[name] for name in dataset.classes}, readable)
