"""What every model is: three questions (`infer`, `loss`, `detect`) and a configuration registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from boxel.config import Choice
from boxel.types import Batch, Detections, Task


class Model(nn.Module, ABC):
    """A detector: a network, its loss, and what turns its outputs into detections.

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
        """Network outputs for `images (b, c, *s)`; shapes depend on the input's shape alone.

        Args:
            segmentation: also compute the segmentation logits, in models that have them.
            phase: the phase of training whose outputs are wanted, see `phases`.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms; their sum is optimised. A batch without objects, or without masks, is normal."""

    @abstractmethod
    def detect(self, outputs: Any, *, masks: bool = False) -> list[Detections]:
        """Decoded, thresholded and suppressed detections of each image, in its voxels, by descending score.

        Args:
            masks: with instance masks, in models that have them.
        """

    def segment(self, outputs: Any) -> Tensor:
        """Class probabilities `(b, 1 + k, *s)` at full resolution, background first.

        Raises:
            ValueError: the model does not segment.
        """
        raise ValueError(
            f"{type(self).__name__} does not segment; choose a model with a segmentation, such as retina_unet"
        )


class ModelConfig(Choice):
    """What the experimenter chooses about a model; `build` adds what the data dictates."""

    gives_masks: ClassVar[bool] = False

    @classmethod
    def of_parts(cls, name: str, parts: Mapping[str, object]) -> "ModelConfig":
        """The configuration registered as `name`, with those of `parts` that it has."""
        kind = cls.registry[name]
        return kind(**{key: value for key, value in parts.items() if key in kind.model_fields})  # type: ignore[return-value]

    def segmentation_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """What the channels of `Model.segment` after the background mean, for a task with `classes`.

        Empty for a model that does not segment; `("foreground",)` for one that segments several classes as one.
        """
        return ()

    def build(self, task: Task) -> Model:
        raise TypeError(f"{type(self).__name__} does not build a model; choose one of {sorted(self.registry)}")
