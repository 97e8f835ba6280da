"""Prepared cases on disk: compressed, any region of any case in milliseconds.

A store is a folder: `dataset.json`, `fingerprint.json`, `task.json`, `splits.json`, the files of each case in
`cases/` (see `boxel.data.stored_case`), and `manifest.json`, which says whether all of it is there.
"""

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import Config, read_json, write_text
from boxel.data.cases import Case, Dataset
from boxel.data.fingerprint import MEASURED, Fingerprint, fingerprint
from boxel.data.levels import from_levels
from boxel.data.parallel import Progress, parallel
from boxel.data.plan import PlanConfig, plan
from boxel.data.split import Split, dataset_splits, make_splits, size_strata
from boxel.data.stored_case import VERSION, CaseMeta, array_files, content, is_stored, meta_file, store_case
from boxel.types import Task


class Manifest(Config):
    """The mark of a store: written before the first case, and again after the last.

    Attributes:
        contents: hash of each case's arrays. Stores of equal contents hold the same images and label maps.
    """

    version: int
    complete: bool
    ids: tuple[str, ...]
    contents: dict[str, str] = {}


class Store:
    """The prepared cases of a folder. Cheap to open and to send to another process.

    Attributes:
        path: the folder.
        task: the plan.
        splits: per fold, the ids of its train, val and test cases.
        ids: of all cases.
        notes: what `prepare` did, in sentences.

    Raises:
        ValueError: the folder is no complete store.
    """

    def __init__(self, path: Path, notes: Sequence[str] = ()) -> None:
        self.path, self.notes = Path(path), tuple(notes)
        again = f"run boxel prepare DATASET --out {self.path}"
        if not (self.path / "manifest.json").exists():
            raise ValueError(f"{self.path}: not a prepared folder; {again}")
        manifest = Manifest.load(self.path / "manifest.json")
        if not manifest.complete:
            raise ValueError(f"{self.path}: its preparation was interrupted; {again} again, it goes on where it was")
        if manifest.version != VERSION:
            raise ValueError(f"{self.path}: prepared by another version of Boxel; {again} again")
        self.ids = manifest.ids
        self.task = Task.load(self.path / "task.json")
        self.splits: list[Split] = read_json(self.path / "splits.json")
        self._metas: dict[str, CaseMeta] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.path, self.notes)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.load(self.path / "fingerprint.json")

    def meta(self, case_id: str) -> CaseMeta:
        """Everything about a case but its arrays.

        Raises:
            ValueError: there is no such case.
        """
        if case_id not in self._metas:
            if case_id not in self.ids:
                raise ValueError(f"{self.path}: no case {case_id!r} among its {len(self.ids)}, such as {self.ids[0]!r}")
            self._metas[case_id] = CaseMeta.load(meta_file(self.path, case_id))
        return self._metas[case_id]

    def read(
        self, case_id: str, lower: Sequence[int] | None = None, upper: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A region of a case, by default all: image `(c, *s)` float32 and label map of ids `(*s)` int32.

        Beyond the image's faces the image has its minimum and the label map 0.

        Raises:
            ValueError: there is no such case, or the region's corners are not one number per axis, lower <=
                upper.
        """
        meta = self.meta(case_id)
        first = np.zeros(len(meta.shape), int) if lower is None else np.asarray(lower).astype(int)
        last = np.array(meta.shape) if upper is None else np.asarray(upper).astype(int)
        if not first.shape == last.shape == (len(meta.shape),) or (last < first).any():
            raise ValueError(
                f"region from {first.tolist()} to {last.tolist()} of case {case_id!r} of shape {meta.shape}; "
                "give one number per axis, lower <= upper"
            )
        inner_first, inner_last = np.clip(first, 0, meta.shape), np.clip(last, 0, meta.shape)
        source = tuple(map(slice, inner_first.tolist(), inner_last.tolist()))
        images, label_maps = array_files(self.path, case_id)
        if (inner_first == first).all() and (inner_last == last).all() and (first < last).all():
            return _read_image(images, source, meta), _read(label_maps, source).astype(np.int32)
        target = tuple(map(slice, inner_first - first, inner_last - first))
        image = np.full((len(self.task.channels), *(last - first)), meta.fill, np.float32)
        label_map = np.zeros(last - first, np.int32)
        if (inner_first < inner_last).all():
            image[(slice(None), *target)] = _read_image(images, source, meta)
            label_map[target] = _read(label_maps, source)
        return image, label_map


def _read_image(path: Path, region: tuple[slice, ...], meta: CaseMeta) -> np.ndarray:
    array = _read(path, (slice(None), *region))
    return from_levels(array, meta.scales) if meta.scales else array


def _read(path: Path, region: tuple[slice, ...]) -> np.ndarray:
    """A region of a compressed array. Opening costs 0.1 ms: no handle is kept that threads could share."""
    import blosc2

    try:
        # One thread: a pool would not survive the fork of a data loader. Mapped files need no copy of their bytes.
        return np.asarray(blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})[region])
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it and run boxel prepare again") from None


def prepare(
    dataset: Dataset,
    out: Path,
    config: PlanConfig = PlanConfig(),  # noqa: B008 (frozen)
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
    num_folds: int = 5,
    seed: int = 0,
) -> Store:
    """Measure, plan, split and store a data set.

    Killed at any moment and started again, it goes on where it was. In a folder prepared before, what still
    fits is kept, and the rest is made again (`Store.notes` says what).

    Args:
        out: an empty folder, or one prepared before.
        workers: cases at a time; 0 for this thread only, None for one per core.
        on_progress: called with cases done, cases in all, and what is going on.
        num_folds: of splits that the data set does not prescribe.
        seed: of those splits.

    Raises:
        ValueError: the data set is invalid, a setting does not fit it, or `out` cannot be written (names
            which).
    """
    out = Path(out)
    try:
        return _prepare(dataset, out, config, workers, on_progress, num_folds, seed)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "check its permissions"
        raise ValueError(
            f"{error.filename or out}: cannot be written ({error.strerror}); {remedy} "
            "or choose another folder, then start again: finished cases are kept"
        ) from error


def _prepare(
    dataset: Dataset,
    out: Path,
    config: PlanConfig,
    workers: int | None,
    on_progress: Progress | None,
    num_folds: int,
    seed: int,
) -> Store:
    _check_target(dataset, out)
    splits = dataset_splits(dataset, num_folds=num_folds, seed=seed)
    before = Task.load(out / "task.json") if (out / "task.json").exists() else None
    ids = tuple(case.id for case in dataset.cases)
    Manifest(version=VERSION, complete=False, ids=ids).save(out / "manifest.json")
    used = {case_id for split in splits for part in ("train", "val") for case_id in split[part]}
    measured = fingerprint(dataset, ids=used, cache=out / "cases", workers=workers, on_progress=on_progress)
    if dataset.splits is None:  # the same cases to train and validate on, now that sizes are known
        strata = size_strata(measured.cases)
        splits = make_splits(dataset.cases, num_folds=num_folds, seed=seed, strata=strata)
    task = plan(measured, config)

    described = {"name": dataset.name, "source": str(dataset.root), "ndim": dataset.ndim}
    described |= {"classes": list(dataset.classes), "channels": list(dataset.channels)}
    write_text(out / "dataset.json", json.dumps(described, indent=2) + "\n")
    write_text(out / "splits.json", json.dumps(splits, indent=1) + "\n")
    measured.save(out / "fingerprint.json")
    task.save(out / "task.json")

    bare = replace(dataset, cases=(), splits=None)

    def store(case: Case) -> bool:
        if is_stored(out, case, task):
            return False
        store_case(out, case, bare, task)
        return True

    made = sum(parallel(store, dataset.cases, workers, on_progress, "preparing"))
    removed = _remove_others(out, ids)
    contents = {case_id: content(out, case_id) for case_id in ids}
    Manifest(version=VERSION, complete=True, ids=ids, contents=contents).save(out / "manifest.json")
    return Store(out, _notes(before, task, made, len(ids), removed))


def _check_target(dataset: Dataset, out: Path) -> None:
    others = [out] if out.is_file() else [path for path in out.glob("*") if not _is_temporary(path)]
    if others and not (out / "manifest.json").exists():
        raise ValueError(f"{out}: neither empty nor a prepared folder; choose a new folder for --out")
    for case in dataset.cases:
        if Path(case.id).name != case.id or case.id.startswith(".") or case.id.endswith((".labels", ".measured")):
            raise ValueError(f"case {case.id!r}: cannot be a file name; rename it without / and leading dot")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


def _remove_others(out: Path, ids: Sequence[str]) -> int:
    """Remove the files of cases that are gone, which are counted, and what a kill left half-written."""
    keep = {f"{case_id}{suffix}" for case_id in ids for suffix in (".b2nd", ".labels.b2nd", ".json", MEASURED)}
    others = [path for path in (out / "cases").iterdir() if path.name not in keep]
    for path in [*others, *filter(_is_temporary, out.iterdir())]:
        path.unlink()
    return sum(path.suffix == ".b2nd" and not path.name.endswith(".labels.b2nd") for path in others)


def _notes(before: Task | None, task: Task, made: int, total: int, removed: int) -> list[str]:
    notes = [f"{made} of {total} cases prepared" + (f", {total - made} were ready" if made < total else "")]
    if removed:
        notes.append(f"{removed} cases of an earlier preparation removed")
    if before is not None:
        changed = [name for name in Task.model_fields if name != "why" and getattr(before, name) != getattr(task, name)]
        if changed:
            notes.append(f"the plan changed: {', '.join(changed)}")
    return notes
