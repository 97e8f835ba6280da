"""The interface of all models: `infer`, `loss` and `detect`, and a configuration registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from boxel.config import Choice, did_you_mean
from boxel.nn.pretrained import Pretrained
from boxel.ops.checks import check_choice
from boxel.types import Batch, Detections, Task


class Model(nn.Module, ABC):
    """A detector: a network, its loss, and the detections in its outputs.

    Models are built from numbers and need no `Task`: see `boxel.models.RetinaNet`. `ModelConfig.build` builds one for a
    task. Images are `(b, c, *s)` with one or more channels and as many spatial axes as the model has.

    The phase that `infer` takes and the batch that `loss` takes are checked before a subclass sees them.

    Attributes:
        num_classes: classes of objects, background not counted; where it is None, labels are not checked.
        phases: names of the optimisation steps that one batch takes, in order. Each step has its own loss terms; a
            model that is trained end to end has one phase.
        learns_segmentation: whether a training step computes the segmentation; not where there is nothing to learn.
    """

    phases: ClassVar[tuple[str, ...]] = ("all",)
    num_classes: int | None = None
    learns_segmentation: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, check in {"infer": _check_phase, "loss": _check_batch}.items():
            if name in vars(cls):
                setattr(cls, name, _after(check, vars(cls)[name]))

    def forward(
        self,
        images: Tensor,
        batch: Batch | None = None,
        *,
        phase: str = "all",
        masks: bool = False,
    ) -> Any:
        """Loss terms where a batch is given, otherwise detections: the one entry that wrappers (DDP) see."""
        if batch is not None:
            return self.loss(self.infer(images, segmentation=self.learns_segmentation, phase=phase), batch)
        return self.detect(self.infer(images, segmentation=masks), masks=masks)

    @abstractmethod
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> Any:
        """Network outputs for `images (b, c, *s)`; their shapes depend on the input's shape alone.

        Args:
            segmentation: also compute the segmentation logits; without effect in models that have none.
            phase: the phase of training whose outputs are wanted, see `phases`; "all" for detections.

        Raises:
            ValueError: an unknown phase.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, whose sum is minimised. A batch without objects, or without masks, is normal.

        Raises:
            ValueError: the batch lacks the instances of an image, or a label is not in 0..num_classes - 1.
        """

    @abstractmethod
    def detect(self, outputs: Any, *, masks: bool = False) -> list[Detections[Tensor]]:
        """Decoded, thresholded and suppressed detections of each image, in its voxels, by descending score.

        Args:
            masks: with instance masks.

        Raises:
            ValueError: masks are asked for, but the model gives none, or the outputs lack the segmentation they need.
        """

    def segment(self, outputs: Any) -> Tensor:
        """Class probabilities `(b, 1 + k, *s)` at full resolution, background first.

        Raises:
            ValueError: the model does not segment, or the outputs were inferred without `segmentation=True`.
        """
        raise ValueError(
            f"{type(self).__name__} does not segment; choose a model with a segmentation, such as retina_unet"
        )

    def segment_boxes(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Class probabilities `(b, 1 + k, *s)` in given boxes `(n, 2, d)` of each image, background elsewhere.

        Raises:
            ValueError: the model segments whole images, or not at all.
        """
        raise no_given_boxes(self)


def _after(check: Callable[..., None], method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, preceded by a check of its arguments."""

    @wraps(method)
    def run(self: Model, *args: Any, **kwargs: Any) -> Any:
        check(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return run


def _check_phase(model: Model, *_: Any, phase: str = "all", **__: Any) -> None:
    check_choice("phase", phase, tuple(dict.fromkeys(("all", *model.phases))))


def _check_batch(model: Model, outputs: Any, batch: Batch) -> None:
    axes = len(batch.images.shape[2:])
    for name, given in {"instances": batch.instances, "ignored": batch.ignored or batch.images}.items():
        if len(given) != len(batch.images):
            raise ValueError(
                f"the batch has {len(batch.images)} images, but {name} of {len(given)}; give one entry per image, "
                "an empty one where there is nothing"
            )
    for image, one in enumerate(batch.instances):
        if one.boxes.shape[-1] != axes:
            raise ValueError(f"image {image} has {axes} axes, but its boxes have {one.boxes.shape[-1]}")
    labels = torch.cat([one.labels for one in batch.instances])
    if model.num_classes is None or not len(labels):
        return
    # One read-back from the device, where matching starts with one anyway.
    lowest, highest = torch.stack(labels.aminmax()).tolist()
    if lowest < 0 or highest >= model.num_classes:
        wrong = lowest if lowest < 0 else highest
        image = next(i for i, one in enumerate(batch.instances) if (one.labels == wrong).any())
        case = f" (case {batch.cases[image]!r})" if batch.cases else ""
        raise ValueError(
            f"image {image}{case} has an object with label {wrong}; labels must lie in 0..{model.num_classes - 1}: "
            "correct the label, or build the model with more classes"
        )


def segments_boxes(model: Model) -> bool:
    return type(model).segment_boxes is not Model.segment_boxes


def no_given_boxes(model: Model) -> ValueError:
    """The error where a model does not segment given boxes."""
    return ValueError(
        f"{type(model).__name__} does not segment given boxes; choose a model whose second stage does, such as lsnet"
    )


def refuse_masks(model: Model, masks: bool) -> None:
    """Raise where masks are asked of a model that predicts boxes only."""
    if masks:
        raise ValueError(f"{type(model).__name__} predicts boxes only; call detect without masks=True")


class ModelConfig(Choice):
    """What the experimenter chooses about a model; `build` adds what the data dictates.

    Attributes:
        gives_masks: whether the model's detections can have masks.
        segments: whether the model answers `Model.segment`.
    """

    gives_masks: ClassVar[bool] = False
    segments: ClassVar[bool] = False

    @classmethod
    def of_parts(cls, name: str, parts: Mapping[str, object]) -> "ModelConfig":
        """The configuration registered as `name`, with these parts; the others have their defaults.

        Raises:
            ValueError: no such model, or a part that it does not have; suggests the likely name.

        Example:
            >>> from boxel import ModelConfig
            >>> ModelConfig.of_parts("retina_unet", {"segment": "classes"}).segment
            'classes'
        """
        if name not in cls.registry:
            raise ValueError(f"unknown model {name!r}{did_you_mean(name, cls.registry)}")
        return cls.registry[name].from_dict(parts, f"model {name}")  # type: ignore[return-value]

    def segmentation_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """What the channels of `Model.segment` after the background mean, for a task with `classes`.

        Empty for a model that does not segment; `("foreground",)` for one that segments several classes as one.
        """
        return ()

    def pretrained(self, model: Model) -> Pretrained | None:
        """The initial weights of the whole model from the file that the configuration names, if it can name one.

        Raises:
            ValueError: the file cannot be read or does not fit.
        """
        return None

    @property
    def extends(self) -> bool:
        """Whether the levels that detect end one above the encoder's coarsest, see `NeckConfig.extends`."""
        return False

    @property
    def fills_boxes(self) -> bool:
        """Whether the segmentation takes the ellipse in the box of an object without a mask for the object."""
        return False

    def build(self, task: Task) -> Model:
        """The model for a task."""
        raise TypeError(
            f"{type(self).__name__} does not build a model; choose one of {', '.join(sorted(self.registry))}"
        )
