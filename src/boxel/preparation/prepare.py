"""Prepare a data set: measure, plan, split, resample and write a store."""

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.config import read_json, write_text
from boxel.datasets.cases import Case, Dataset, can_name_files
from boxel.datasets.parallel import parallel
from boxel.datasets.split import Strata, dataset_splits, make_splits
from boxel.output_folder import check_empty
from boxel.preparation.fingerprint import CaseRecord
from boxel.preparation.measure import MEASURED, measure
from boxel.preparation.plan import PlanConfig, plan
from boxel.preparation.prepare_case import content, is_stored, store_case
from boxel.preparation.store import Manifest, Store
from boxel.preparation.stored_case import VERSION
from boxel.types import Progress, Task, silent
from boxel.wording import counted


def prepare(
    dataset: Dataset,
    out: Path,
    config: PlanConfig = PlanConfig(),  # noqa: B008 (frozen)
    *,
    workers: int | None = None,
    progress: Progress = silent,
    num_folds: int = 5,
    seed: int = 0,
) -> Store:
    """Measure, plan, split and store a data set.

    Rerun an interrupted call to resume it. In a folder prepared before, cases that have not changed are kept and the
    others are prepared again (`Store.notes` lists them).

    Args:
        out: an empty folder, or one prepared before.
        workers: parallel workers (0: calling thread, None: one per core).
        progress: called with the stage, the number of finished cases and the number of all cases.
        num_folds: number of folds, if the data set prescribes none.
        seed: random seed for the fold split.

    Raises:
        ValueError: the data set is invalid, a setting does not fit it, or `out` cannot be written (names which).
    """
    out = Path(out)
    try:
        return _prepare(dataset, out, config, workers, progress, num_folds, seed)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "check its permissions"
        raise ValueError(
            f"{error.filename or out}: cannot be written ({error.strerror}); {fix} "
            "or choose another folder, then rerun to resume (finished cases are kept)"
        ) from error


def _prepare(
    dataset: Dataset,
    out: Path,
    config: PlanConfig,
    workers: int | None,
    progress: Progress,
    num_folds: int,
    seed: int,
) -> Store:
    _check_target(dataset, out)
    splits = dataset_splits(dataset, num_folds=num_folds, seed=seed)
    before = Task.load(out / "task.json") if (out / "task.json").exists() else None
    ids = tuple(case.id for case in dataset.cases)
    Manifest(version=VERSION, complete=False, ids=ids).save(out / "manifest.json")
    used = {case_id for split in splits for case_id in (*split.train, *split.val)}
    measured = measure(dataset, ids=used, cache=out / "cases", workers=workers, progress=progress)
    if dataset.splits is None:  # the same cases to train and validate on, now that sizes are known
        strata = size_strata(measured.cases)
        splits = make_splits(dataset.cases, num_folds=num_folds, seed=seed, strata=strata)
    task = plan(measured, config)

    described = {"name": dataset.name, "source": str(dataset.root), "ndim": dataset.ndim}
    described |= {"classes": list(dataset.classes), "channels": list(dataset.channels)}
    write_text(out / "dataset.json", json.dumps(described, indent=2) + "\n")
    write_text(out / "splits.json", json.dumps([split.to_dict() for split in splits], indent=1) + "\n")
    measured.save(out / "fingerprint.json")
    task.save(out / "task.json")

    bare = replace(dataset, cases=(), splits=None)

    def store(case: Case) -> bool:
        if is_stored(out, case, task):
            return False
        store_case(out, case, bare, task)
        return True

    made = sum(parallel(store, dataset.cases, workers, progress, "preparing"))
    removed = _remove_others(out, ids)
    contents = {case_id: content(out, case_id) for case_id in ids}
    Manifest(version=VERSION, complete=True, ids=ids, contents=contents).save(out / "manifest.json")
    return Store(out, _notes(before, task, made, len(ids), removed))


def size_strata(measured: Sequence[CaseRecord]) -> Strata:
    """Strata by class and size: per object a number for its class and its third of the volumes (mm^d) of that class."""
    volumes = [np.prod(np.reshape(case.sizes, (-1, len(case.spacing))) * case.spacing, axis=1) for case in measured]
    every, labels = np.concatenate(volumes), np.concatenate([np.asarray(case.labels, int) for case in measured])
    limits = {label: np.quantile(every[labels == label], (1 / 3, 2 / 3)) for label in set(labels.tolist())}
    return {
        case.id: [3 * k + int(np.searchsorted(limits[k], v, "right")) for k, v in zip(case.labels, own, strict=True)]
        for case, own in zip(measured, volumes, strict=True)
    }


def _check_target(dataset: Dataset, out: Path) -> None:
    manifest = read_json(out / "manifest.json") if (out / "manifest.json").exists() else {}
    if not (isinstance(manifest, dict) and manifest.keys() >= {"version", "complete", "ids"}):
        check_empty(out, "prepare")
    for case in dataset.cases:
        if not can_name_files(case.id) or case.id.endswith((".labels", ".measured")):
            raise ValueError(f"case {case.id!r}: cannot be a file name; rename it without / and leading dot")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


def _remove_others(out: Path, ids: Sequence[str]) -> int:
    """Remove files of cases that no longer exist, and temporary files; return the number of such cases."""
    keep = {f"{case_id}{suffix}" for case_id in ids for suffix in (".b2nd", ".labels.b2nd", ".json", MEASURED)}
    others = [path for path in (out / "cases").iterdir() if path.name not in keep]
    for path in [*others, *filter(_is_temporary, out.iterdir())]:
        path.unlink()
    return sum(path.suffix == ".b2nd" and not path.name.endswith(".labels.b2nd") for path in others)


def _notes(before: Task | None, task: Task, made: int, total: int, removed: int) -> list[str]:
    notes = [f"{made} of {counted(total, 'case')} prepared" + (f", {total - made} were ready" if made < total else "")]
    if removed:
        notes.append(f"{counted(removed, 'case')} of an earlier preparation removed")
    if before is not None:
        changed = [name for name in Task.model_fields if name != "why" and getattr(before, name) != getattr(task, name)]
        if changed:
            notes.append(f"the plan changed: {', '.join(changed)}")
    return notes
