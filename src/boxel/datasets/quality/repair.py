"""Repair a data set: write a copy in the native layout."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset, read_case
from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.parallel import parallel
from boxel.datasets.problems import Finding
from boxel.output_folder import check_empty
from boxel.types import Instances, Progress, silent

__all__ = ["repair"]

STRAY = 0.1  # of the largest part of an object; larger parts may be objects, which only the user can decide


def repair(
    dataset: Dataset,
    findings: Sequence[Finding],
    out: Path,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Write a copy of the data set in which all problems are fixed that need no decision by the user.

    Objects without voxels or extent and repeated ones are left out, and boxes are clipped at the border of the image.
    Of an object in several parts, those below a tenth of the largest are removed. Objects are numbered from 1. Label
    maps are stored on the grids of their images. Cases with other errors are left out. Groups, folds, ignored objects
    and attributes are kept. The data set itself is not changed.

    Args:
        findings: the result of `check`.
        out: an empty or new folder outside the data set.

    Raises:
        ValueError: `out` is not empty, or lies in the data set.
    """
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out}: lies in the data set, which is not changed; give a folder outside {root}")
    check_empty(out, "check --fix", option="--fix")
    broken = {finding.case for finding in findings if finding.severity == "error"}

    def copy(case: Case) -> bool:
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

    # Two cases of one name would overwrite each other; only the user knows which one is right.
    counts = Counter(case.id for case in dataset.cases)
    candidates = [case for case in dataset.cases if case.channels and counts[case.id] == 1]
    copied = parallel(copy, candidates, workers, progress, "repairing")
    cases = [case for case, done in zip(candidates, copied, strict=True) if done]
    kept = {case.id for case in cases}
    if dataset.splits is not None:
        folds = [{part: [i for i in ids if i in kept] for part, ids in fold.items()} for fold in dataset.splits]
        write_splits(out, folds)
    groups = {case.id: case.group for case in cases if case.group}
    write_dataset(out, dataset.name, dataset.ndim, dataset.classes, dataset.channels, groups)
    return replace(dataset, root=out, cases=tuple(cases))


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
