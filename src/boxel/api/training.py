"""`boxel prepare` and `boxel train`."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from boxel.api.run import RunSplit, read_history, start_run
from boxel.api.validation import make_validation
from boxel.config import write_text
from boxel.datasets.cases import Dataset
from boxel.datasets.formats import as_dataset
from boxel.models.base import ModelConfig
from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.pretrained import Pretrained, pretrained
from boxel.preparation.plan import plan
from boxel.preparation.prepare import prepare as prepare_store
from boxel.preparation.store import Store
from boxel.recipes import Experiment, get_recipe
from boxel.training.checkpoints import read_ranking
from boxel.training.config import TrainConfig
from boxel.training.loop import ends
from boxel.training.loop import train as train_model
from boxel.types import Progress, Task, silent


def prepare(
    dataset: Path | str | Dataset,
    out: Path | str,
    *,
    recipe: str | Experiment = "auto",
    overrides: Sequence[str] = (),
    num_folds: int = 5,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Store:
    """Measure a data set, plan, resample and normalise it into the folder `out`.

    Only what is missing or has changed is computed: repeat the call to resume an interrupted preparation.

    Args:
        dataset: a folder in any layout that Boxel recognises, or the result of `open_dataset`.
        num_folds: number of folds of the cross-validation, unless the data set prescribes folds.
        seed: random seed for the fold split.
        workers: parallel workers; 0 for the main process, None for one per core.

    Raises:
        ValueError: something is wrong with the data; names the file and a suggested fix.
    """
    experiment = get_recipe(recipe).override(overrides)
    return prepare_store(
        as_dataset(dataset),
        Path(out),
        experiment.plan,
        num_folds=num_folds,
        seed=seed,
        workers=workers,
        progress=progress,
    )


def train(
    work: Path | str,
    run: Path | str | None = None,
    *,
    fold: int = 0,
    recipe: str | Experiment = "auto",
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Train a detector on prepared data, and return its run folder, which is all that `load` needs.

    Repeat the call to resume an interrupted training; it ends like an uninterrupted one.

    Args:
        work: the folder that `prepare` wrote.
        run: the folder to write; `WORK/runs/RECIPE_foldK` by default.

    Raises:
        ValueError: an unknown recipe, key, fold or metric; a run folder with other settings; data that were prepared
            differently; pretrained weights that do not fit.
    """
    store = Store(Path(work))
    experiment = get_recipe(recipe).override(overrides)
    task = plan_for(store, experiment)
    if not 0 <= fold < len(store.splits):
        raise ValueError(f"fold {fold} does not exist; {store.path} has the folds 0 to {len(store.splits) - 1}")
    split = RunSplit(**dict(store.splits[fold]), work=str(store.path.resolve()), fold=fold)
    val_ids = split.val[: experiment.train.validation_cases]
    validate = make_validation(store, val_ids, task, experiment)
    run = Path(run) if run else store.path / "runs" / f"{experiment.recipe}_fold{fold}"
    fresh = not (run / "resume.safetensors").exists()
    backbone = pretrained_backbone(experiment.model, task) if fresh else None
    start_run(run, experiment, task, split)
    initial = None
    if backbone is not None:
        name, weights = backbone
        initial = {f"{name}.{key}": tensor for key, tensor in weights.state.items()}
        write_text(run / "pretrained.json", json.dumps(weights.to_dict(), indent=2) + "\n")
        logging.getLogger("boxel").info(weights)
    steps = experiment.train.steps
    if read_ranking(run) and _finished(run, experiment.train):
        progress("train", steps, steps)
        return run
    limit = experiment.train.max_seconds

    def on_step(done: int, measured: dict[str, float]) -> None:
        share = measured["seconds"] / limit if limit else 0.0
        progress("train", max(done, min(steps, int(share * steps))), steps)

    if not task.masks and experiment.model.gives_masks:
        logging.getLogger("boxel").warning("no object has a mask: segmentation and mask terms are off")
    train_model(
        run,
        store,
        list(split.train),
        task,
        experiment.model,
        experiment.train,
        seed=experiment.seed,
        initial=initial,
        validate=validate,
        on_step=on_step,
    )
    return run


def pretrained_backbone(config: ModelConfig, task: Task) -> tuple[str, Pretrained] | None:
    """The name of a model's backbone and its initial weights, if the configuration names a file of weights.

    Raises:
        ValueError: the file cannot be used.
    """
    backbone: BackboneConfig | None = getattr(config, "backbone", None)
    if backbone is None or backbone.weights is None:
        return None
    name, module = next((n, m) for n, m in config.build(task).named_modules() if isinstance(m, Backbone))
    return name, pretrained(backbone, module)


def plan_for(store: Store, experiment: Experiment) -> Task:
    """The plan of a recipe on prepared data.

    Raises:
        ValueError: the recipe needs other spacing or normalisation than the data were prepared with.
    """
    task = plan(store.fingerprint, experiment.plan)
    for field in ("spacing", "normalisation", "channels", "classes"):
        if getattr(task, field) != getattr(store.task, field):
            raise ValueError(
                f"{store.path}: prepared with {field} {getattr(store.task, field)}, but recipe "
                f"{experiment.recipe!r} needs {getattr(task, field)}; run `boxel prepare` with "
                f"--recipe {experiment.recipe} into another folder"
            )
    return task


def _finished(run: Path, config: TrainConfig) -> bool:
    if not (run / "weights.safetensors").exists():
        return False
    last = read_history(run)[-1:]
    return any(ends(config, int(step["step"]), step["seconds"]) for step in last)
