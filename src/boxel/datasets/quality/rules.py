"""The rules of `check`: problems of one case, and of all cases together."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset, LoadedCase, read_case
from boxel.datasets.instances import fills_image, repeated
from boxel.datasets.problems import Finding, as_input_error, some
from boxel.datasets.quality.folds import FOLD_RULES
from boxel.datasets.quality.near_duplicates import MOST_PAIRS, hash_image, near_duplicates
from boxel.datasets.quality.orientation import Turn, describe, edge_strengths, likely_turn
from boxel.datasets.quality.plausible import far_from_median, implausible_size, per_axis, unusual_size
from boxel.datasets.split import parts_of, sides
from boxel.wording import counted, counted_of

__all__ = ["ACROSS", "Look", "look", "split_instances"]

MIN_EXTENT = 3  # voxels; smaller objects vanish in the finest level of most feature pyramids
IMBALANCE = 10  # objects of the most frequent class per object of another
PLAUSIBLE_MEDIAN = 500  # HU
PLAUSIBLE = (-5000, 50_000)  # HU; padding is often -2000 or -3024, metal up to 30,000
NARROW = 50  # HU; even a window of the brain is 80 wide
SAMPLE = 100_000  # voxels from which percentiles are taken
MANY = 3  # findings of one kind; more are summarised in one
ANISOTROPY = 3  # largest over smallest spacing; from here on networks use anisotropic strides


@dataclass(frozen=True)
class Look:
    """What the rules across cases and the overview need to know of a case, and its own findings.

    Attributes:
        digest: hash of the voxels; empty if the case cannot be read.
        bits: a hash that is alike for images that look alike.
        labels: class of each object.
        boxes: `(n, 2, d)` in voxels, of each object.
        shape: `(*s)`.
        spacing: mm per voxel and axis.
        intensities: 1st, 50th and 99th percentile of the first channel.
        edges: how well the objects lie on edges of the image, for each turn of the label map.
        parts: ids of the objects whose masks are in several parts.
    """

    case: Case
    findings: Sequence[Finding] = ()
    digest: bytes = b""
    bits: np.ndarray | None = None
    labels: Sequence[int] = field(default_factory=list)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, 0)))
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    intensities: tuple[float, ...] = ()
    edges: Mapping[Turn, float] = field(default_factory=dict)
    parts: Sequence[int] = ()


def look(case: Case, dataset: Dataset) -> Look:
    """Read a case and apply the rules of single cases."""
    try:
        loaded = read_case(case, dataset)
    except ValueError as error:
        return Look(case, [Finding.of(as_input_error(error), case.id)])
    array = loaded.image.array
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    findings = [*_remarks(case, loaded), *_size(case, loaded, dataset), *_hounsfield(case, array, dataset.channels)]
    edges = {} if loaded.label_map is None else edge_strengths(array, loaded.label_map)
    parts = [] if loaded.label_map is None else split_instances(loaded.label_map)
    geometry, instances = loaded.image.geometry, loaded.instances
    sample = array[0].ravel()[:: max(array[0].size // SAMPLE, 1)]
    return Look(
        case,
        findings,
        digest,
        hash_image(array),
        instances.labels.tolist(),
        instances.boxes,
        geometry.shape,
        geometry.spacing,
        tuple(np.percentile(sample, (1, 50, 99)).tolist()),
        edges,
        parts,
    )


def _remarks(case: Case, loaded: LoadedCase) -> Iterator[Finding]:
    if loaded.image.array.min() == loaded.image.array.max():
        problem = f"all voxels are {loaded.image.array.min():g}"
        yield Finding("warning", case.id, case.channels[0], problem, "export the image again, or remove the case")
    for remark in loaded.image.remarks:
        yield _finding(case, case.channels[0], remark, "check that boxes lie on their objects (--preview)")
    instances = loaded.instances
    extents = instances.boxes[:, 1] - instances.boxes[:, 0]
    small = instances.ids[(extents < MIN_EXTENT).any(axis=1)].tolist()
    if small:
        problem = f"{_objects(small)} smaller than {MIN_EXTENT} voxels along an axis"
        yield Finding("warning", case.id, case.file, problem, "remove specks; tiny objects are hard to detect")
    whole = fills_image(instances, loaded.image.geometry.shape)
    if whole.any():
        problem = f"{_objects(instances.ids[whole].tolist())} as large as the whole image"
        yield Finding("warning", case.id, case.file, problem, "if the mask is inverted, save it with 0 as background")
    copies, overlaid = repeated(instances), repeated(instances, any_class=True)
    if copies.any():
        problem = f"{_objects(instances.ids[copies].tolist())} in the annotation twice: same box, same class"
        yield Finding("warning", case.id, case.file, problem, "remove the copies; --fix does")
    if (overlaid & ~copies).any():
        problem = f"{_objects(instances.ids[overlaid & ~copies].tolist())} in the box of an object of another class"
        yield Finding("warning", case.id, case.file, problem, "decide which class is right, and remove the other")
    for remark in case.annotate.remarks(loaded.image.geometry) if case.annotate else ():
        yield _finding(case, case.file, remark, "check axis order, unit and origin if this is more than a margin")
    masked = instances.ids[instances.has_mask]
    if len(masked) and masked.max() > len(instances):
        problem = f"object numbers go up to {masked.max()} but the case has {counted(len(instances), 'object')}"
        yield Finding("note", case.id, case.file, problem, "this is harmless; --fix numbers them from 1")
    boxed = instances.ids[~(instances.has_mask | copies | overlaid)].tolist()  # a copy hides the mask of its original
    if boxed and len(masked):
        fix = "training learns no shape from them and previews show boxes only; draw the missing masks if they should"
        yield Finding("note", case.id, case.file, f"{_objects(boxed)} without a mask, unlike others of the image", fix)


def _size(case: Case, loaded: LoadedCase, dataset: Dataset) -> Iterator[Finding]:
    geometry = loaded.image.geometry
    wrong = implausible_size(geometry, dataset.channels)
    problem, _, fix = (wrong or unusual_size(geometry, dataset.channels)).partition("; ")
    if problem:
        yield Finding("error" if wrong else "warning", case.id, case.channels[0], problem, fix)


def _finding(case: Case, file: Path, remark: str, usual_fix: str) -> Finding:
    """The warning of a remark, which may name its own suggested fix."""
    problem, _, suggested_fix = remark.partition("; ")
    return Finding("warning", case.id, file, problem, suggested_fix or usual_fix)


def _hounsfield(case: Case, array: np.ndarray, channels: Sequence[str]) -> Iterator[Finding]:
    """CT values that are not Hounsfield units (air is -1000, water 0, bone up to 3000)."""
    for name, channel in zip(channels, array, strict=True):
        if not name.upper().startswith("CT"):
            continue
        low, high = float(channel.min()), float(channel.max())
        unsigned = low >= 0 and (high <= 255 or float(np.median(channel)) > PLAUSIBLE_MEDIAN)
        beyond = low < PLAUSIBLE[0] or high > PLAUSIBLE[1]
        if high > low and (unsigned or beyond or high - low < NARROW):
            problem = f"CT values from {low:g} to {high:g} are not Hounsfield units"
            fix = "apply rescale slope and intercept (often -1024), undo scaling, or name the channel differently"
            yield Finding("warning", case.id, case.channels[0], problem, fix)


def _objects(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return f"object {listed} is" if len(ids) == 1 else f"{len(ids)} objects ({listed}) are"


def split_instances(label_map: np.ndarray) -> list[int]:
    """Ids of objects in several parts; voxels that share a corner are connected."""
    import cc3d

    parts, num_parts = cc3d.connected_components(label_map, return_N=True)
    ids = np.zeros(num_parts + 1, label_map.dtype)
    ids[parts.ravel()] = label_map.ravel()
    present, counts = np.unique(ids[1:], return_counts=True)
    return present[counts > 1].tolist()


def _parts(dataset: Dataset, looks: Sequence[Look]) -> Iterator[Finding]:
    """Objects in several parts, which may be all objects of a case whose label map has one value."""
    numbered = sum(len(look.labels) > 1 for look in looks)
    for look in looks:
        if not look.parts:
            continue
        case, problem = look.case, f"{_objects(look.parts)} in several parts"
        fix = "give each part its own number, or remove stray voxels: the box spans all parts"
        if len(look.labels) == 1 and numbered:
            problem = (
                f"its label map has one value in several parts, but those of {numbered} cases number their objects: "
                "all parts are one object"
            )
            fix = "number the parts if each is an object of its own, or remove stray voxels"
        yield Finding("warning", case.id, case.file, problem, fix)


def _duplicates(dataset: Dataset, looks: Iterable[Look]) -> Iterator[Finding]:
    same: dict[bytes, list[Case]] = defaultdict(list)
    parts = parts_of(dataset)
    for look in looks:
        same[look.digest].append(look.case)
    for first, *others in same.values():
        for case in others:
            problem = f"the same image as case {first.id}{sides(parts, first, case)}"
            yield Finding("warning", case.id, case.channels[0], problem, "remove one, or give both the same group")


def _near_duplicates(dataset: Dataset, looks: Sequence[Look]) -> Iterator[Finding]:
    """Pairs that look alike and may be separated by a split; `_duplicates` reports identical ones."""
    chosen = [seen for seen in looks if seen.bits is not None]
    pairs = [(chosen[a], chosen[b]) for a, b in near_duplicates([seen.bits for seen in chosen])]
    apart = [
        (a.case, b.case)
        for a, b in pairs
        if a.digest != b.digest and (a.case.group or a.case.id) != (b.case.group or b.case.id)
    ]
    fix, parts = "if they show the same object, remove one, or give both the same group", parts_of(dataset)
    if len(apart) > MANY:
        text = some(f"{a.id} and {b.id}" for a, b in apart)
        leaks = sum(bool(sides(parts, a, b)) for a, b in apart)
        leak = f", {leaks} of them on different sides of a split" if leaks else ""
        least = "at least " if len(pairs) == MOST_PAIRS else ""
        problem = f"{least}{counted(len(apart), 'pair of images looks', 'pairs of images look')} alike{leak}: {text}"
        yield Finding("warning", "", dataset.root, problem, fix)
        return
    for a, b in apart:
        yield Finding("warning", b.id, b.channels[0], f"looks like case {a.id}{sides(parts, a, b)}", fix)


def _orientation(dataset: Dataset, looks: Sequence[Look]) -> Iterator[Finding]:
    """Label maps whose headers agree with the image but whose objects do not lie on its edges."""
    fix = "view some as an overlay; save the label maps in the orientation of their images"
    turn = likely_turn([seen.edges for seen in looks])
    if turn:
        problem = f"the label maps fit their images better when {describe(turn)}"
        yield Finding("warning", "", dataset.root, problem, fix)
        return
    for seen in looks:
        turn = likely_turn([seen.edges])
        if turn:
            problem = f"the label map fits its image better when {describe(turn)}"
            yield Finding("warning", seen.case.id, seen.case.file, problem, fix)


def _classes(dataset: Dataset, looks: Iterable[Look]) -> Iterator[Finding]:
    train = [look for look in looks if look.case.split == "train"]
    counts = Counter(label for look in train for label in look.labels)
    if not counts:
        yield Finding("warning", "", dataset.root, "no objects in the training cases", "annotate some")
        return
    names = dataset.classes
    absent = [name for label, name in enumerate(names) if not counts[label]]
    rare = [label for label in range(len(names)) if 0 < IMBALANCE * counts[label] < max(counts.values())]
    if len(absent) > MANY:
        problem = f"{len(absent)} of {len(names)} classes occur in no training case: {some(absent)}"
        yield Finding("warning", "", dataset.root, problem, "annotate some, or remove them from the labels")
    else:
        for name in absent:
            fix = "annotate some, or remove the class from the labels"
            yield Finding("warning", "", dataset.root, f"class {name} occurs in no training case", fix)
    if len(rare) > MANY:
        problem = f"{len(rare)} of {len(names)} classes are rare: {some(f'{names[n]} ({counts[n]})' for n in rare)}"
        yield Finding("warning", "", dataset.root, problem, "expect worse results for them; add cases")
    else:
        for label in rare:
            every = counted(sum(counts.values()), "object")
            problem = f"class {names[label]} has {counts[label]} of {every} in the training cases"
            yield Finding("warning", "", dataset.root, problem, "expect worse results for it; add cases")
    negative = sum(not look.labels for look in train)
    if negative:
        problem = f"{counted_of(negative, len(train), 'training case', 'has', 'have')} no objects"
        yield Finding("note", "", dataset.root, problem, "nothing to do if this is correct")


def _spacing(dataset: Dataset, looks: Sequence[Look]) -> Iterator[Finding]:
    if not looks:
        return
    spacing = np.array([look.spacing for look in looks])
    median = np.median(spacing, axis=0)
    text = " x ".join(f"{value:.3g}" for value in median)
    if median.max() > ANISOTROPY * median.min():
        problem = f"voxels are anisotropic (median {text} mm)"
        yield Finding("note", "", dataset.root, problem, "preparation adapts the strides; also try a slice-wise model")
    if (spacing.max(axis=0) > 2 * spacing.min(axis=0)).any():
        problem = f"spacing differs more than twofold between cases (median {text} mm)"
        yield Finding("note", "", dataset.root, problem, "preparation resamples all cases to one spacing")
    for row in np.flatnonzero(far_from_median(spacing)).tolist():
        case = looks[row].case
        problem = f"voxel size {per_axis(spacing[row])} mm is far from that of the other cases (median {text} mm)"
        if not any(finding.severity == "error" for finding in looks[row].findings):  # its size is impossible
            yield Finding("warning", case.id, case.channels[0], problem, "correct it in its header if it is wrong")


ACROSS = (_parts, _orientation, _duplicates, _near_duplicates, *FOLD_RULES, _classes, _spacing)
