"""The runs of a detector: one, or several of the same task, whose checkpoints are members of one ensemble."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from boxel.api.run import read_run
from boxel.api.run_plugins import is_needed, used_plugins
from boxel.inference.config import PredictConfig
from boxel.models.base import Model, ModelConfig
from boxel.nn.nd import channels_last
from boxel.recipes import Experiment
from boxel.training.checkpoints import read_ranking
from boxel.training.tensors import load_weights
from boxel.types import Task

# What a prepared image, its tiles and its detections depend on.
SHARED = ("ndim", "channels", "classes", "spacing", "spacing_unit", "normalisation", "patch_size", "strides", "context")


class _Hash(Protocol):
    def update(self, content: bytes, /) -> None: ...


@dataclass(frozen=True)
class Member:
    """One run.

    Attributes:
        run: its folder.
        trained: its settings.
        experiment: its settings with the changes of this prediction.
        task: its task, with the number of detections of this prediction.
    """

    run: Path
    trained: Experiment
    experiment: Experiment
    task: Task

    @classmethod
    def read(cls, run: Path | str, overrides: Sequence[str], trust: bool) -> "Member":
        """The description of a run.

        Raises:
            ValueError: the folder is not a run, or a setting has no effect once it is trained.
        """
        for key in (assignment.partition("=")[0].strip() for assignment in overrides):
            if key.split(".")[0] in ("recipe", "seed", "train", "plan") and key != "plan.max_detections":
                raise ValueError(
                    f"{key}: has no effect on a trained detector; leave it out, or train another run with it"
                )
        trained, task, _ = read_run(Path(run), trust=trust)
        experiment = trained.override(overrides)
        return cls(Path(run), trained, experiment, _with_cap(task, trained, experiment))

    def files(self, checkpoints: int | None) -> list[Path]:
        """The weights of the best so many checkpoints, best first.

        Raises:
            ValueError: the run is not trained yet.
        """
        files = [self.run / "checkpoints" / entry.file for entry in read_ranking(self.run)][:checkpoints]
        files = files if files and all(file.exists() for file in files) else [self.run / "weights.safetensors"]
        if not files[0].exists():
            raise ValueError(f"{self.run}: no weights yet; finish the training with `boxel train` first")
        return files

    def models(self, files: Sequence[Path], settings: _Hash, weights: _Hash) -> Iterator[Model]:
        """The models with their weights.

        Args:
            files: of the weights.
            settings: receives everything that detections depend on.
            weights: receives the weights, and the plug-ins that the models need.

        Raises:
            ValueError: the weights are those of another model.
        """
        for part in ("plan", "model"):
            if getattr(self.experiment, part) != getattr(self.trained, part):
                settings.update(getattr(self.experiment, part).to_json().encode())
        for plugin in used_plugins(self.experiment):
            if is_needed(plugin.registered):
                settings.update(plugin.source)
                weights.update(plugin.source)
        for file in files:
            model = channels_last(self.experiment.model.build(self.task), self.task.ndim)
            load_weights(model, file)
            content = file.read_bytes()
            settings.update(content)
            weights.update(content)
            yield model

    @property
    def segmentation_classes(self) -> tuple[str, ...]:
        """The classes that its models segment: none if they had neither masks nor ellipses in their place to learn."""
        config = self.experiment.model
        learns = self.task.masks or config.fills_boxes
        return config.segmentation_classes(self.task.classes) if learns else ()

    def check_masks(self, predict: PredictConfig) -> None:
        """Raise ValueError if masks or a segmentation are asked for that its models cannot give."""
        config: ModelConfig = self.experiment.model
        name = config.type_name
        if predict.masks and not (config.gives_masks and self.task.masks):
            why = "was trained without masks" if config.gives_masks else "predicts boxes only"
            raise ValueError(f"{self.run}: no masks available, its {name} {why}; leave out --masks")
        if predict.segmentation and not self.segmentation_classes:
            segments = config.segmentation_classes(self.task.classes)
            why = "was trained without masks" if segments else "does not segment"
            raise ValueError(f"{self.run}: no segmentation available, its {name} {why}; leave out --segmentation")


def read_members(runs: Sequence[Path | str], overrides: Sequence[str], trust: bool) -> list[Member]:
    """The runs of an ensemble; the first one's settings of prediction are those of all.

    Raises:
        ValueError: a folder is not a run, two runs differ in their task or are the same, or one cannot give the masks
            or the segmentation asked for.
    """
    members = [Member.read(run, overrides, trust) for run in runs]
    first, places = members[0], [member.run.resolve() for member in members]
    for number, member in enumerate(members):
        member.check_masks(first.experiment.predict)
        if places[number] in places[:number]:
            raise ValueError(f"{member.run}: named twice; name each run of the ensemble once")
        for name in SHARED:
            own, other = getattr(member.task, name), getattr(first.task, name)
            if own != other:
                raise ValueError(
                    f"{member.run}: has {name} {own}, but {first.run} has {other}; an ensemble needs runs of one task, "
                    "such as the folds of one prepared data set"
                )
        if first.experiment.predict.segmentation and member.segmentation_classes != first.segmentation_classes:
            raise ValueError(
                f"{member.run}: segments {', '.join(member.segmentation_classes)}, but {first.run} "
                f"{', '.join(first.segmentation_classes)}; leave out --segmentation"
            )
    return members


def load_models(
    members: Sequence[Member],
) -> tuple[list[Model], tuple[int, ...], str, str]:
    """The models of all members, the number of each member's, and the fingerprints of all and of the weights alone."""
    predict, consolidate = members[0].experiment.predict, members[0].experiment.consolidate
    chosen = predict.to_dict()
    del chosen["calibrate"]  # it has an effect with operating points only, which have a hash of their own
    settings = hashlib.sha256((json.dumps(chosen, indent=2) + "\n" + consolidate.to_json()).encode())
    weights, models, counts = hashlib.sha256(), list[Model](), list[int]()
    for number, member in enumerate(members):
        if number:
            settings.update(b"further run")
            weights.update(b"further run")
        files = member.files(predict.checkpoints)
        models += member.models(files, settings, weights)
        counts.append(len(files))
    return models, tuple(counts), settings.hexdigest()[:16], weights.hexdigest()[:16]


def _with_cap(task: Task, trained: Experiment, experiment: Experiment) -> Task:
    """The task with the chosen number of detections, the only choice of the plan that prediction may change.

    Raises:
        ValueError: another choice of the plan is changed.
    """
    before, after = trained.plan.to_dict(), experiment.plan.to_dict()
    changed = sorted(name for name in after if after[name] != before[name])
    if fixed := [name for name in changed if name != "max_detections"]:
        raise ValueError(
            f"plan.{fixed[0]}: fixed since the data were prepared; leave out this --set, or prepare and train with it"
        )
    chosen = experiment.plan.max_detections
    if not changed or chosen is None:
        return task
    return task.model_copy(update={"max_detections": chosen, "image_voxels": None})
