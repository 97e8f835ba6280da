"""The interface of all models: `infer`, `loss` and `detect`, and a configuration registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from boxel.config import Choice, did_you_mean
from boxel.types import Batch, Detections, Task


class Model(nn.Module, ABC):
    """A detector: a network, its loss, and the detections in its outputs.

    Models are built from numbers and need no `Task`: see `boxel.models.RetinaNet`. `ModelConfig.build` builds one for a
    task. Images are `(b, c, *s)` with one or more channels and as many spatial axes as the model has.

    Attributes:
        phases: names of the optimisation steps that one batch takes, in order. Each step has its own loss terms; a
            model that is trained end to end has one phase.
    """

    phases: ClassVar[tuple[str, ...]] = ("all",)

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
            return self.loss(self.infer(images, segmentation=True, phase=phase), batch)
        return self.detect(self.infer(images, segmentation=masks), masks=masks)

    @abstractmethod
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> Any:
        """Network outputs for `images (b, c, *s)`; their shapes depend on the input's shape alone.

        Args:
            segmentation: also compute the segmentation logits, in models that have them.
            phase: the phase of training whose outputs are wanted, see `phases`.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, whose sum is minimised. A batch without objects, or without masks, is normal."""

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

    def build(self, task: Task) -> Model:
        """The model for a task."""
        raise TypeError(f"{type(self).__name__} does not build a model; choose one of {sorted(self.registry)}")
