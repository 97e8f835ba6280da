"""Everything that is wrong or remarkable about a data set, found in one pass over its files."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boxel.data.cases import Case, Dataset, InputError, LoadedCase, Severity, read_case
from boxel.data.formats import open_dataset
from boxel.data.parallel import parallel
from boxel.data.problems import some

__all__ = ["Examination", "Finding", "check", "examine"]

SEVERITIES = ("error", "warning", "note")
MIN_EXTENT = 3  # voxels; smaller objects vanish in the finest level of most feature pyramids
IMBALANCE = 10  # objects of the most frequent class per object of another
MANY = 3  # findings of one kind; more are told in one sentence
ANISOTROPY = 3  # largest over smallest spacing; from here on networks use anisotropic strides


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


@dataclass(frozen=True)
class _Look:
    """What is kept of a case after reading it."""

    case: Case
    findings: Sequence[Finding] = ()
    digest: bytes = b""
    labels: Sequence[int] = field(default_factory=list)
    spacing: tuple[float, ...] = ()


@dataclass(frozen=True)
class Examination:
    """What was found in a data set; `dataset` is None where it could not be opened.

    Attributes:
        objects: number of objects per class in the cases that can be used.
    """

    findings: list[Finding]
    dataset: Dataset | None = None
    objects: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line: layout, cases, objects per class."""
        if self.dataset is None:
            return "no data set"
        data = self.dataset
        parts = [("training", len(data.train)), ("test", len(data.test))]
        split = ", ".join(f"{count} {name}" for name, count in parts if count)
        most = sorted(self.objects.items(), key=lambda item: -item[1])
        classes = ", ".join(f"{name} {count}" for name, count in most[:8]) + (", ..." if len(most) > 8 else "")
        channels = f"{len(data.channels)} channel{'s' * (len(data.channels) != 1)}"
        return (
            f"{data.name} ({data.format} layout, {data.ndim} axes, {channels}): {len(data.cases)} cases ({split}), "
            f"{sum(self.objects.values())} objects ({classes})"
        )


def check(
    path: Path,
    *,
    format: str = "",  # noqa: A002
    options: Sequence[str] = (),
    workers: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> list[Finding]:
    """What is wrong with the data set at `path`, errors first; empty when there is nothing to say.

    Args:
        path: the data set's folder.
        format: name of its layout; empty to recognise it.
        options: of the layout, each `"key=value"`.
        workers: threads; None takes one per processor.
        on_progress: called with the number of cases read, of all cases, and what is done.

    Raises:
        ValueError: there is no data set at `path`.
    """
    return examine(path, format=format, options=options, workers=workers, on_progress=on_progress).findings


def examine(
    path: Path,
    *,
    format: str = "",  # noqa: A002
    options: Sequence[str] = (),
    workers: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Examination:
    """`check` with what there is to count."""
    problems: list[InputError] = []
    try:
        dataset = open_dataset(path, problems.append, format=format, options=options)
    except InputError as problem:
        return Examination([_finding(problem) for problem in (*problems, problem)])
    broken = {problem.case for problem in problems if problem.severity == "error"}
    cases = [case for case in dataset.cases if case.id not in broken]
    with_image = [case for case in cases if case.channels]
    looks = list(parallel(lambda case: _look(case, dataset), with_image, workers, on_progress, "checking"))
    findings = [_finding(problem) for problem in problems]
    for look in looks:
        findings.extend(look.findings)
    readable = [look for look in looks if look.digest]
    for rule in (_duplicates, _groups, _classes, _spacing):
        findings.extend(rule(dataset, readable) if with_image else ())
    labels = [label for look in readable for label in look.labels]
    labels += [label for case in cases if not case.channels for label in case.labels]
    counts = Counter(dataset.classes[label] for label in labels)
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), f.case, str(f.file), f.problem))
    return Examination(findings, dataset, {name: counts[name] for name in dataset.classes})


def _finding(problem: InputError) -> Finding:
    return Finding(problem.severity, problem.case, problem.file, problem.problem, problem.remedy)


def _look(case: Case, dataset: Dataset) -> _Look:
    try:
        loaded = read_case(case, dataset)
    except InputError as problem:
        return _Look(case, [_finding(problem)])
    except ValueError as error:  # of boxel.io: "file: problem; remedy"
        file, _, message = str(error).partition(": ")
        text, _, remedy = message.rpartition("; ")
        return _Look(case, [Finding("error", case.id, Path(file), text, remedy)])
    array = loaded.image.array
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    findings = list(_remarks(case, loaded))
    return _Look(case, findings, digest, loaded.instances.labels.tolist(), loaded.image.geometry.spacing)


def _remarks(case: Case, loaded: LoadedCase) -> Iterator[Finding]:
    if loaded.image.array.min() == loaded.image.array.max():
        problem = f"all voxels are {loaded.image.array.min():g}"
        yield Finding("warning", case.id, case.channels[0], problem, "export the image again, or remove the case")
    instances = loaded.instances
    extents = instances.boxes[:, 1] - instances.boxes[:, 0]
    small = instances.ids[(extents < MIN_EXTENT).any(axis=1)].tolist()
    if small:
        problem = f"{_objects(small)} smaller than {MIN_EXTENT} voxels along an axis"
        yield Finding("warning", case.id, case.file, problem, "remove specks; tiny objects are hard to detect")
    parts = [] if loaded.label_map is None else _split_instances(loaded.label_map)
    if parts:
        remedy = "give each part its own number, or remove stray voxels: the box spans all parts"
        yield Finding("warning", case.id, case.file, f"{_objects(parts)} in several parts", remedy)


def _objects(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return f"object {listed} is" if len(ids) == 1 else f"{len(ids)} objects ({listed}) are"


def _split_instances(label_map: np.ndarray) -> list[int]:
    """Ids of objects with several parts; voxels that share a corner are connected."""
    import cc3d

    parts, num_parts = cc3d.connected_components(label_map, return_N=True)
    ids = np.zeros(num_parts + 1, label_map.dtype)
    ids[parts.ravel()] = label_map.ravel()
    found, counts = np.unique(ids[1:], return_counts=True)
    return found[counts > 1].tolist()


def _duplicates(dataset: Dataset, looks: Iterable[_Look]) -> Iterator[Finding]:
    same: dict[bytes, list[Case]] = defaultdict(list)
    for look in looks:
        same[look.digest].append(look.case)
    for first, *others in same.values():
        for case in others:
            leak = " (training and test)" if case.split != first.split else ""
            problem = f"the same image as case {first.id}{leak}"
            yield Finding("warning", case.id, case.channels[0], problem, "remove one, or give both the same group")


def _groups(dataset: Dataset, looks: Iterable[_Look]) -> Iterator[Finding]:
    train = {case.group for case in dataset.train if case.group}
    for group in sorted(train & {case.group for case in dataset.test}):
        problem = f"group {group} is in the training and the test cases"
        yield Finding("warning", "", dataset.root, problem, "move its cases to one side: the test would be flattered")


def _classes(dataset: Dataset, looks: Iterable[_Look]) -> Iterator[Finding]:
    train = [look for look in looks if look.case.split == "train"]
    counts = Counter(label for look in train for label in look.labels)
    if not counts:
        yield Finding("warning", "", dataset.root, "no object in the training cases", "annotate some to train")
        return
    absent = [name for label, name in enumerate(dataset.classes) if not counts[label]]
    if len(absent) > MANY:
        problem = f"no training case shows {len(absent)} of {len(dataset.classes)} classes: {some(absent)}"
        yield Finding("warning", "", dataset.root, problem, "annotate some, or take them out of the data set's labels")
    for label, name in enumerate(dataset.classes):
        if name in absent and len(absent) > MANY:
            continue
        if not counts[label]:
            remedy = "annotate some, or take the class out of the data set's labels"
            yield Finding("warning", "", dataset.root, f"no training case shows class {name}", remedy)
        elif max(counts.values()) > IMBALANCE * counts[label]:
            problem = f"class {name} has {counts[label]} of {sum(counts.values())} objects in the training cases"
            yield Finding("warning", "", dataset.root, problem, "expect worse results for it; add cases")
    negative = sum(not look.labels for look in train)
    if negative:
        problem = f"{negative} of {len(train)} training cases show no object"
        yield Finding("note", "", dataset.root, problem, "that is fine where it is true")


def _spacing(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Finding]:
    if not looks:
        return
    spacing = np.array([look.spacing for look in looks])
    median = np.median(spacing, axis=0)
    text = " x ".join(f"{value:.3g}" for value in median)
    if median.max() > ANISOTROPY * median.min():
        problem = f"anisotropic voxels, {text} mm in the median"
        yield Finding("note", "", dataset.root, problem, "preparation adapts the strides; compare a slice-wise model")
    if (spacing.max(axis=0) > 2 * spacing.min(axis=0)).any():
        problem = f"spacing differs more than twofold between cases (median {text} mm)"
        yield Finding("note", "", dataset.root, problem, "preparation resamples all to one spacing")
