"""Prepare a data set: measure, plan, split, resample and write a store."""

import errno
import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.parallel import parallel_cases
from boxel.datasets.quality.folds import bad_names
from boxel.datasets.quality.plausible import implausible_size, per_axis
from boxel.datasets.split import FOLDS, Strata, dataset_splits, make_splits
from boxel.files import write_text
from boxel.inputs.memory import size_in_words
from boxel.inputs.texts import read_json
from boxel.output_folder import check_empty, working_in
from boxel.preparation.fingerprint import CaseRecord, Fingerprint
from boxel.preparation.measure import MEASURED, measure
from boxel.preparation.plan import PlanConfig, check_settings, plan
from boxel.preparation.prepare_case import store_case, stored_content
from boxel.preparation.preprocess import check_grid, stored_shape
from boxel.preparation.store import Manifest, Store
from boxel.preparation.stored_case import VERSION
from boxel.preparation.target_spacing import atypical
from boxel.pseudonyms import pseudonyms
from boxel.types import Geometry, Progress, Split, Task, silent
from boxel.wording import counted


def prepare(
    dataset: Dataset,
    out: Path,
    config: PlanConfig = PlanConfig(),  # noqa: B008 (frozen)
    *,
    workers: int | None = None,
    progress: Progress = silent,
    num_folds: int | None = None,
    seed: int = 0,
    keep_identifiers: bool = False,
    fit: Callable[[Fingerprint], PlanConfig] | None = None,
) -> Store:
    """Measure, plan, split and store a data set.

    Rerun an interrupted call to resume it. In a folder prepared before, cases that have not changed are kept and the
    others are prepared again (`Store.notes` lists them).

    Args:
        out: an empty folder, or one prepared before.
        workers: parallel workers (0: calling thread, None: one per core).
        progress: called with the stage, the number of finished cases and the number of all cases.
        num_folds: number of folds; None for those that the data set prescribes, or else five, or one per group
            (patient) where there are fewer.
        seed: random seed for the fold split.
        keep_identifiers: groups (patients) keep their names in the files; otherwise they get pseudonyms.
        fit: returns `config` with what else has to be measured before the plan is made.

    Raises:
        ValueError: the data set is invalid, a setting does not fit it, or `out` cannot be written (names which).
    """
    out = Path(out)
    try:
        _check_target(out)
        splits = check_dataset(dataset, config, num_folds, seed)
        with working_in(out, "prepare"):
            names = pseudonyms((case.group for case in dataset.cases), out, "cases/*.json", keep=keep_identifiers)
            named = tuple(replace(case, group=names[case.group]) for case in dataset.cases)
            chosen = fit or (lambda _: config)
            store = _prepare(replace(dataset, cases=named), out, splits, chosen, workers, progress, seed)
            if dataset.splits is None and num_folds is None and len(splits) < FOLDS:
                store.notes += (_fewer(len(splits)),)
            return store
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
    splits: list[Split],
    fit: Callable[[Fingerprint], PlanConfig],
    workers: int | None,
    progress: Progress,
    seed: int,
) -> Store:
    before = Task.load(out / "task.json") if (out / "task.json").exists() else None
    ids = tuple(case.id for case in dataset.cases)
    Manifest(version=VERSION, complete=False, ids=ids).save(out / "manifest.json")
    measured = measure(dataset, ids=used_cases(splits), cache=out / "cases", workers=workers, progress=progress)
    if dataset.splits is None:  # the same cases to train and validate on, now that sizes are known
        strata = size_strata(measured.cases)
        splits = make_splits(dataset.cases, num_folds=len(splits), seed=seed, strata=strata)
    task = plan_cases(dataset, measured, fit(measured))
    _check_disk(out, measured, task)

    described = {"name": dataset.name, "source": str(dataset.root), "ndim": dataset.ndim}
    described |= {"classes": list(dataset.classes), "channels": list(dataset.channels)}
    write_text(out / "dataset.json", json.dumps(described, indent=2) + "\n")
    write_text(out / "splits.json", json.dumps([split.to_dict() for split in splits], indent=1) + "\n")
    measured.save(out / "fingerprint.json")
    task.save(out / "task.json")

    bare = replace(dataset, cases=(), splits=None)

    def store(case: Case) -> tuple[bool, str]:
        ready = stored_content(out, case, task)
        return not ready, ready or store_case(out, case, bare, task)

    stored = list(parallel_cases(store, dataset.cases, workers, progress, "preparing"))
    made, contents = sum(new for new, _ in stored), dict(zip(ids, (content for _, content in stored), strict=True))
    removed = _remove_others(out, ids)
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


def would_prepare(
    dataset: Dataset, config: PlanConfig, *, num_folds: int | None = None, seed: int = 0, progress: Progress = silent
) -> None:
    """Raise ValueError where `prepare` would refuse the data set or the settings; writes nothing.

    Images are measured only if a patch size is set without strides, which then depend on the objects.
    """
    splits = check_dataset(dataset, config, num_folds, seed)
    if config.patch_size and not config.strides:
        plan_cases(dataset, measure(dataset, ids=used_cases(splits), progress=progress), config)


def check_dataset(dataset: Dataset, config: PlanConfig, num_folds: int | None, seed: int) -> list[Split]:
    """The folds of a data set.

    Raises:
        ValueError: too few cases, case names or settings that `prepare` refuses without reading an image.
    """
    for problem in bad_names(dataset):
        raise problem
    check_settings(config, dataset.ndim, len(dataset.channels))
    return dataset_splits(dataset, num_folds=num_folds, seed=seed)


def plan_cases(dataset: Dataset, measured: Fingerprint, config: PlanConfig) -> Task:
    """The plan of a data set whose training cases were measured.

    Raises:
        ValueError: a case has an impossible voxel size or becomes too large; a setting does not fit (names which).
    """
    files = {case.id: str(case.channels[0]) for case in dataset.cases if case.channels}
    grids = {case.id: Geometry.plain(case.shape, case.spacing) for case in measured.cases}
    for case_id, grid in grids.items():
        if config.spacing_unit == "mm" and (problem := implausible_size(grid, dataset.channels)):
            raise ValueError(f"{files[case_id]}: {problem}")
    task = plan(measured, config)
    for case_id, grid in grids.items():
        check_grid(grid, task, files[case_id])
    for case in atypical(measured, config.spacing_unit):
        logging.getLogger("boxel").warning(
            f"{files[case.id]}: voxel size {per_axis(case.spacing)} mm is far from that of the other cases, and the "
            "plan is made without this case; correct the voxel size in its header"
        )
    return task


def used_cases(splits: Sequence[Split]) -> set[str]:
    return {case_id for split in splits for case_id in (*split.train, *split.val)}


def _check_disk(out: Path, measured: Fingerprint, task: Task) -> None:
    """Warn if the prepared training cases may not fit on the disk; they take less, as they are compressed."""
    shapes = {c.id: stored_shape(c.shape, c.spacing, task.spacing, task.spacing_unit) for c in measured.cases}
    sizes = {case_id: 2 * len(task.channels) * math.prod(shape) for case_id, shape in shapes.items()}
    largest, free = max(sizes, key=lambda case_id: sizes[case_id]), shutil.disk_usage(out).free
    if sum(sizes.values()) > free:
        logging.getLogger("boxel").warning(
            f"{out}: the prepared cases have {size_in_words(sum(sizes.values()))} before compression, the largest "
            f"({largest}) {size_in_words(sizes[largest])}, and {size_in_words(free)} are free; free some space, or "
            "prepare with a coarser --set plan.spacing"
        )


def _check_target(out: Path) -> None:
    manifest = read_json(out / "manifest.json") if (out / "manifest.json").exists() else {}
    if not (isinstance(manifest, dict) and manifest.keys() >= {"version", "complete", "ids"}):
        check_empty(out, "prepare")


def _remove_others(out: Path, ids: Sequence[str]) -> int:
    """Remove files of cases that no longer exist; return the number of such cases."""
    keep = {f"{case_id}{suffix}" for case_id in ids for suffix in (".b2nd", ".labels.b2nd", ".json", MEASURED)}
    others = [path for path in (out / "cases").iterdir() if path.name not in keep]
    for path in others:
        path.unlink()
    return sum(path.suffix == ".b2nd" and not path.name.endswith(".labels.b2nd") for path in others)


def _fewer(folds: int) -> str:
    return f"{folds} folds instead of {FOLDS}, because the training cases are of {counted(folds, 'group')} (patients)"


def _notes(before: Task | None, task: Task, made: int, total: int, removed: int) -> list[str]:
    notes = [f"{made} of {counted(total, 'case')} prepared" + (f", {total - made} were ready" if made < total else "")]
    if removed:
        notes.append(f"{counted(removed, 'case')} of an earlier preparation removed")
    if before is not None:
        changed = [name for name in Task.model_fields if name != "why" and getattr(before, name) != getattr(task, name)]
        if changed:
            notes.append(f"the plan changed: {', '.join(changed)}")
    return notes
