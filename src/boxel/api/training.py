"""`boxel prepare` and `boxel train`."""

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from boxel.api.fitting import Fitted, fit
from boxel.api.operating_points import measure_once
from boxel.api.prepared_with import PREPARED_WITH, PreparedWith, fitted_before, plan_choices
from boxel.api.run import read_history, start_run
from boxel.api.run_points import write_training_images
from boxel.api.start import start_of
from boxel.api.validation import make_validation, validation_ids
from boxel.datasets.cases import Dataset
from boxel.datasets.formats import as_dataset
from boxel.files import write_text
from boxel.models import ModelConfig
from boxel.nn.backbone import Backbone
from boxel.nn.pretrained import Pretrained, pretrained
from boxel.output_folder import working_in
from boxel.preparation.fingerprint import Fingerprint
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare as prepare_store
from boxel.preparation.store import Store
from boxel.recipes import Experiment, get_recipe, is_file
from boxel.training.checkpoints import is_ranked_finally, rank_finally, read_ranking
from boxel.training.config import LAST, TrainConfig
from boxel.training.loggers import Loggers, observers_of
from boxel.training.loop import is_finished
from boxel.training.loop import train as train_model
from boxel.training.observers import Begun, Callback, Everyone, Functions
from boxel.training.patience import last_phase
from boxel.types import Progress, Task, silent


def prepare(
    dataset: Path | str | Dataset,
    out: Path | str,
    *,
    recipe: str | Experiment = "auto",
    overrides: Sequence[str] = (),
    num_folds: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    keep_identifiers: bool = False,
    progress: Progress = silent,
) -> Store:
    """Measure a data set, plan, resample and normalise it into the folder `out`.

    Only what is missing or has changed is computed: repeat the call to resume an interrupted preparation.

    Args:
        dataset: a folder in any layout that Boxel recognises, or the result of `open_dataset`.
        num_folds: number of folds of the cross-validation; None for those that the data set prescribes, or else five,
            or one per group (patient) where there are fewer (`Store.notes` says so).
        seed: random seed for the fold split.
        workers: parallel workers; 0 for the main process, None for one per core.
        keep_identifiers: keep the names of groups (patients) in the files of `out`, instead of pseudonyms.

    Raises:
        ValueError: something is wrong with the data; names the file and a suggested fix.
    """
    asked = get_recipe(recipe)
    experiment = asked.override(overrides)
    known = fitted_before(Path(out))

    def fitted_plan(fingerprint: Fingerprint) -> PlanConfig:
        nonlocal experiment
        experiment = fit(fingerprint, experiment, known)
        return experiment.plan

    store = prepare_store(
        as_dataset(dataset),
        Path(out),
        experiment.plan,
        fit=fitted_plan,
        num_folds=num_folds,
        seed=seed,
        workers=workers,
        keep_identifiers=keep_identifiers,
        progress=progress,
    )
    chosen = {name: experiment.plan.to_dict()[name] for name in plan_choices(overrides)}
    complete = isinstance(recipe, Experiment) or is_file(recipe)  # a file may change until the training
    given = asked.to_dict() if complete else recipe
    fitted = Fitted.of(experiment) if experiment.plan.memory else None
    prepared = PreparedWith(
        recipe=experiment.recipe, plan=chosen, given=given, overrides=tuple(overrides), fitted=fitted
    )
    prepared.save(store.path / PREPARED_WITH)
    return store


def train(
    work: Path | str,
    run: Path | str | None = None,
    *,
    fold: int = 0,
    recipe: str | Experiment = "auto",
    model: str | None = None,
    overrides: Sequence[str] = (),
    logger: Loggers = "auto",
    on_step: Callback | None = None,
    on_validation: Callback | None = None,
    progress: Progress = silent,
) -> Path:
    """Train a detector on prepared data, and return its run folder, which is all that `load` needs.

    Repeat the call to resume an interrupted training; it ends like an uninterrupted one.

    Args:
        work: the folder that `prepare` wrote.
        run: the folder to write; `WORK/runs/RECIPE_foldK` by default.
        recipe: `auto` is the recipe, and all settings, that `prepare` was given; by hardware, if it was given none.
        model: the recipe for this model instead of its own.
        logger: `tensorboard`, `mlflow`, `wandb`, a `boxel.training.observers.Observer` of your own, or several of
            these; `auto` is TensorBoard, if it is installed, and `none` no logger.
        on_step: called after each step with its number, from 1, and its metrics, such as `loss` and `lr`.
        on_validation: called after each validation with the number of the step and the metrics, such as `AP@0.10`.

    Raises:
        ValueError: an unknown recipe, key, fold or metric; a run folder with other settings; a recipe or a setting
            that contradicts what the data were prepared with; pretrained weights that do not fit; training cases
            without anything to train on; a loss that is not finite, or a saved state that is damaged; another process
            that trains into the folder; a budget that is too short; not enough memory.
    """
    observers = Everyone(Functions(on_step, on_validation), *observers_of(logger))
    start = start_of(work, run, fold, recipe, model, overrides)
    run, store, split, task, experiment = start.run, start.store, start.split, start.task, start.experiment
    val_ids = validation_ids(store, split, experiment)
    validate = make_validation(store, val_ids, task, experiment)
    fresh = not (run / "resume.safetensors").exists()
    given = pretrained_parts(experiment.model, task) if fresh else {}
    with working_in(run, "train"):
        start_run(run, experiment, task, split)
        write_training_images(run, store)
        initial = {
            f"{name}.{key}".lstrip("."): tensor
            for name, weights in given.items()
            for key, tensor in weights.state.items()
        }
        if given:
            record = {name or "model": weights.to_dict() for name, weights in given.items()}
            write_text(run / "pretrained.json", json.dumps(record, indent=2) + "\n")
        for weights in given.values():
            logging.getLogger("boxel").info(weights)
        steps = experiment.train.steps
        finish, select_by = None, experiment.train.select_by
        if len(val_ids) < len(split.val) and experiment.train.keep > 1 and select_by != LAST:
            on_all = make_validation(store, split.val, task, experiment)
            finish = partial(rank_finally, run, select_by=select_by, validate=on_all, progress=progress)
        trained = read_ranking(run) and _finished(run, experiment.train)
        if trained and (finish is None or is_ranked_finally(run, select_by)):
            progress("train", steps, steps)
            measure_once(run, store, split, experiment, progress)
            return run
        limit, disk = experiment.train.max_seconds, start.disk()

        def on_start(done: int, device: Any) -> None:
            observers.on_start(Begun(run, experiment.to_dict(), experiment.train, str(device), done, disk))

        def tell(done: int, measured: dict[str, float]) -> None:
            observers.on_step(done, measured)
            share = measured["seconds"] / limit if limit else 0.0
            progress("train", max(done, min(steps, int(share * steps))), steps)

        if not task.masks and experiment.model.gives_masks:
            effect = "segmentation and mask terms are off"
            if experiment.model.fills_boxes:
                effect = "the ellipse in each box is taken for the object"
            logging.getLogger("boxel").warning(f"no object has a mask: {effect}")
        try:
            with start.memory_explained():
                train_model(
                    run, store, list(split.train), task, experiment.model, experiment.train, seed=experiment.seed,
                    initial=initial, validate=validate, on_start=on_start, on_step=tell, finish=finish,
                )  # fmt: skip
        finally:
            observers.on_end()
        measure_once(run, store, split, experiment, progress)
        return run


def pretrained_parts(config: ModelConfig, task: Task) -> dict[str, Pretrained]:
    """The initial weights of the parts whose configuration names a file of weights, by their names in the model.

    These are the backbones, or the whole model, whose name is empty.

    Raises:
        ValueError: the model cannot be built for this plan, a file cannot be used, one is given for the model and for
            its backbone, or levels without initial weights are frozen.
    """
    found: dict[str, Pretrained] = {}
    model = config.build(task)
    whole = config.pretrained(model)
    if whole is not None:
        found[""] = whole
    for name, module in model.named_modules():
        if not isinstance(module, Backbone):
            continue
        setting = ".".join(["model", *name.split(".")[:-1], "backbone"])
        if module.config.weights is not None and whole is not None:
            raise ValueError(f"model.weights={whole.file} has the backbone in it; leave out {setting}.weights")
        if module.config.weights is not None:
            found[name] = pretrained(module.config, module, setting)
        elif module.config.frozen and whole is None:
            raise ValueError(
                f"{setting}.frozen={module.config.frozen} would keep random weights; name a file of pretrained ones "
                f"with {setting}.weights, or set {setting}.frozen=0"
            )
    return found


def _finished(run: Path, config: TrainConfig) -> bool:
    if not (run / "weights.safetensors").exists():
        return False
    log = read_history(run)
    last = last_phase(log, config)
    return any(is_finished(config, int(step["step"]), step["seconds"], last) for step in log[-1:])
