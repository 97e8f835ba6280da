"""Repair a data set: write a copy in the native layout.

The copy is made in the hidden folder OUT/.unfinished, which no reader opens, and checked there; then it moves to OUT.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset, read_case
from boxel.datasets.formats import native
from boxel.datasets.formats.native_writer import annotation_file, write_case, write_dataset, write_splits
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.parallel import parallel
from boxel.datasets.problems import Finding, raise_it, some
from boxel.datasets.source_files import facts, stamps
from boxel.inputs.signatures import digest
from boxel.output_folder import claimed
from boxel.pseudonyms import SALT, pseudonyms
from boxel.types import Instances, Progress, silent

__all__ = ["repair"]

STRAY = 0.1  # of the largest part of an object; larger parts may be objects, which only the user can decide
UNFINISHED, CHECKED = ".unfinished", ".checked"  # the latter becomes dataset.json


def repair(
    dataset: Dataset,
    findings: Sequence[Finding],
    out: Path,
    *,
    keep_identifiers: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Write a copy of the data set in which all problems are fixed that need no decision by the user.

    Objects without voxels or extent and repeated ones are left out, and boxes are clipped at the border of the image.
    Of an object in several parts, those below a tenth of the largest are removed. Objects are numbered from 1. Label
    maps are stored on the grids of their images. Cases with other errors are left out. Groups, folds, ignored objects
    and attributes are kept; groups (patients) get pseudonyms. The data set itself is not changed.

    Repeat an interrupted call to resume it. `out` is no data set until the copy is complete.

    Args:
        findings: the result of `check`.
        out: an empty or new folder outside the data set, or one with a copy of the same data set as it is now.
        keep_identifiers: groups keep their names.

    Raises:
        ValueError: `out` holds anything else, or lies in the data set; another process works there.
    """
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out}: lies in the data set, which is not changed; give a folder outside {root}")
    # Two cases of one name would overwrite each other; only the user knows which one is right.
    counts = Counter(case.id for case in dataset.cases)
    candidates = [case for case in dataset.cases if case.channels and counts[case.id] == 1]
    broken = {finding.case for finding in findings if finding.severity == "error"}
    state = digest([sorted(broken), [[facts(case), stamps(case)] for case in candidates]])
    job = {"DATASET": str(dataset.root.resolve()), "its state": state, "--keep-identifiers": keep_identifiers}
    with claimed(out, "check --fix", job, option="--fix"):
        if not (out / "dataset.json").exists():
            if not (out / UNFINISHED / CHECKED).exists():
                own = {case.id: case.group for case in candidates if case.group}
                names = pseudonyms(own.values(), out, "dataset.json", keep=keep_identifiers)
                groups = {case: names[group] for case, group in own.items()}
                _copy_all(dataset, candidates, broken, groups, out / UNFINISHED, workers, progress)
            _publish(out / UNFINISHED, out)
        with suppress(OSError):  # removed before
            (out / UNFINISHED).rmdir()
        kept = tuple(case for case in candidates if annotation_file(out, case.id, case.split).exists())
    return replace(dataset, root=out, cases=kept)


def _copy_all(
    dataset: Dataset,
    candidates: Sequence[Case],
    broken: set[str],
    groups: dict[str, str],
    out: Path,
    workers: int | None,
    progress: Progress,
) -> None:
    def copy(case: Case) -> bool:
        if annotation_file(out, case.id, case.split).exists():  # written last
            return True
        try:
            loaded = read_case(case, dataset, repair=True)
        except ValueError:
            if case.id in broken:
                return False
            raise
        instances, label_map = _without_strays(loaded.instances, loaded.label_map)
        masked = instances[instances.has_mask]
        labels = dict(zip(masked.ids.tolist(), masked.labels.tolist(), strict=True))
        boxes = instances[~instances.has_mask]
        numbers = dict(zip(loaded.instances.ids.tolist(), instances.ids.tolist(), strict=True))
        attributes = {numbers[own]: known for own, known in case.attributes.items() if own in numbers}
        write_case(
            out, case.id, loaded.image, label_map if labels else None, labels, split=case.split, boxes=boxes,
            ignored=loaded.ignored, attributes=attributes,
        )  # fmt: skip
        return True

    copied = parallel(copy, candidates, workers, progress, "repairing")
    kept = {case.id for case, done in zip(candidates, copied, strict=True) if done}
    if dataset.splits is not None:
        folds = [{part: [i for i in ids if i in kept] for part, ids in fold.items()} for fold in dataset.splits]
        write_splits(out, folds)
    own = {case: group for case, group in groups.items() if case in kept}
    write_dataset(out, dataset.name, dataset.ndim, dataset.classes, dataset.channels, own)
    _check_complete(out, kept, len(dataset.channels))
    os.replace(out / "dataset.json", out / CHECKED)


def _check_complete(out: Path, wanted: Collection[str], num_channels: int) -> None:
    """Read the copy as any data set is read, and compare it with what it is to hold.

    Raises:
        ValueError: it lacks a case or a file.
    """
    copy = native.read(out, raise_it)
    files = {case.id: [*case.channels, *filter(None, [case.label_map])] for case in copy.cases}
    lost = [case for case in wanted if len(files.get(case, ())) < num_channels or not _whole(files[case])]
    if lost or len(files) > len(wanted):
        what = some(lost) if lost else "of unknown cases too"
        raise ValueError(f"{out}: the copy is not complete ({what}); rerun the command, or choose another folder")


def _whole(files: Iterable[Path]) -> bool:
    return all(file.is_file() and file.stat().st_size for file in files)


def _publish(copy: Path, out: Path) -> None:
    """Move the copy to its place; dataset.json, which makes it a data set, comes last."""
    for entry in copy.iterdir():
        if entry.name != CHECKED:
            os.replace(entry, out / entry.name)
    (out / SALT).unlink(missing_ok=True)
    os.replace(copy / CHECKED, out / "dataset.json")


def _without_strays(instances: Instances, label_map: np.ndarray | None) -> tuple[Instances, np.ndarray | None]:
    """Number objects from 1 and remove the stray voxels of each mask."""
    numbers = np.arange(1, len(instances) + 1)
    if label_map is None:
        return replace(instances, ids=numbers), None
    import cc3d

    # No table indexed by object number: numbers may be as large as 2^31.
    ids, ranks = np.unique(label_map, return_inverse=True)
    new = dict(zip(instances.ids[instances.has_mask].tolist(), numbers[instances.has_mask].tolist(), strict=True))
    lookup = np.array([new.get(number, 0) for number in ids.tolist()], np.int32)
    renumbered = lookup[ranks].reshape(label_map.shape)
    parts = cc3d.connected_components(renumbered)
    sizes = np.bincount(parts.ravel())
    owner = np.zeros(len(sizes), np.int32)
    owner[parts.ravel()] = renumbered.ravel()
    largest = np.zeros(len(instances) + 1, np.int64)
    np.maximum.at(largest, owner[1:], sizes[1:])
    kept = np.where(sizes[parts] >= STRAY * largest[owner[parts]], renumbered, 0)
    ids, tight = tight_boxes(kept)
    boxes = instances.boxes.copy()
    boxes[ids - 1] = tight
    return replace(instances, boxes=boxes, ids=numbers), kept
