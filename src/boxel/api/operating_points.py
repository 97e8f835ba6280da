"""`boxel thresholds`: the operating points of a run, from its validation cases as `boxel predict` predicts them."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.api.budget import THRESHOLDS
from boxel.api.detector import Detector
from boxel.api.run import RunSplit, read_run
from boxel.api.run_points import FILE, NO_CASES, RunPoints, relevant_settings, write_training_images
from boxel.api.validation import config_of, predict_stored
from boxel.evaluation.operating_points import ValidationMatches
from boxel.operating_points import OperatingPoints
from boxel.output_folder import working_in
from boxel.preparation.store import Store
from boxel.recipes import Experiment
from boxel.training.config import LAST
from boxel.types import Detections, Progress, silent
from boxel.wording import counted_of


def thresholds(
    run: Path | str,
    work: Path | str | None = None,
    *,
    trust: bool = False,
    progress: Progress = silent,
) -> OperatingPoints:
    """Measure the operating points of a run and store them in its folder, in place of those that are there.

    `boxel.train` does it at its end; runs of an earlier Boxel, or whose time was short, need this.

    Args:
        run: the folder of a finished training.
        work: the prepared data, if they were moved since.
        trust: import the plug-in files in the run folder; they are code.
        progress: called with the stage, the cases done and all cases.

    Returns:
        The points of each class by their names, and the one with the highest F1 as `applied`.

    Raises:
        ValueError: the training is not finished, the prepared data are not there or are others, or there are no
            validation cases.
    """
    run = Path(run)
    experiment, task, split = read_run(run, trust=trust)
    place = Path(work or split.work)
    if not place.exists():
        raise ValueError(f"{place}: the prepared data of {run} are not there any more; give their folder with --work")
    store = Store(place)
    if store.task.classes != task.classes or not set(split.val) <= set(store.ids):
        raise ValueError(f"{place}: not the data that {run} was trained on; give their folder with --work")
    if not split.val:
        raise ValueError(f"{run}: {NO_CASES}")
    with working_in(run, "thresholds"):
        write_training_images(run, store)  # an earlier Boxel wrote none
        return measure_points(run, store, split, experiment, progress=progress)


def measure_once(run: Path, store: Store, split: RunSplit, experiment: Experiment, progress: Progress) -> None:
    """Measure the operating points at the end of a training, unless they are there; one process of several does it."""
    if not split.val:
        logging.getLogger("boxel").warning(f"{run}: {NO_CASES}")
    if not split.val or (run / FILE).exists() or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    budget = experiment.train.budget_seconds
    points = measure_points(run, store, split, experiment, seconds=budget and THRESHOLDS * budget, progress=progress)
    logging.getLogger("boxel").info(f"predictions will mark {points}")


def measure_points(
    run: Path,
    store: Store,
    split: RunSplit,
    experiment: Experiment,
    *,
    seconds: float | None = None,
    progress: Progress = silent,
) -> OperatingPoints:
    """See `thresholds`; after so many seconds, the cases that are done must do."""
    device = "cpu" if experiment.train.accelerator == "cpu" else None
    without_masks = ["predict.masks=false", "predict.segmentation=false"]
    detector = Detector.load(run, overrides=without_masks, device=device, measured=False)
    ids, began = _in_random_order(split.val, experiment.seed), time.perf_counter()
    detections: dict[str, Detections] = {}
    for done, case in enumerate(ids):
        progress("thresholds", done, len(ids))
        if seconds and done and time.perf_counter() - began > seconds:
            logging.getLogger("boxel").info(
                f"score thresholds are from {counted_of(done, len(ids), 'validation case', 'only', 'only')}, as the "
                f"time allows; `boxel thresholds {run}` measures them on all"
            )
            break
        detections |= predict_stored(detector, store, [case])
    progress("thresholds", len(ids), len(ids))
    metas = {case: store.meta(case) for case in split.val if case in detections}
    select_by = experiment.train.select_by
    matches = ValidationMatches.of(
        {case: detections[case] for case in metas},
        {case: meta.original_instances for case, meta in metas.items()},
        detector.classes,
        0.1 if select_by == LAST else config_of(select_by).iou_thresholds[0],
        {case: meta.group or case for case, meta in metas.items()},
    )
    points = matches.operating_points()
    settings = relevant_settings(experiment)
    RunPoints(weights=detector.weights, settings=settings, points=points, matches=matches).save(run / FILE)
    return points


def _in_random_order(ids: Sequence[str], seed: int) -> list[str]:
    return [ids[k] for k in np.random.default_rng(seed).permutation(len(ids)).tolist()]
