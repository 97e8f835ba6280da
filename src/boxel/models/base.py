"""What every model is: three questions (`infer`, `loss`, `detect`) and a configuration registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from boxel.config import Choice
from boxel.types import Batch, Detections, Task


class Model(nn.Module, ABC):
    """A detector. `forward` trains when given a batch and detects otherwise, so that wrappers see one entry."""

    def forward(self, images: Tensor, batch: Batch | None = None, *, masks: bool = False) -> Any:
        outputs = self.infer(images, masks=masks)
        return self.detect(outputs) if batch is None else self.loss(outputs, batch)

    @abstractmethod
    def infer(self, images: Tensor, *, masks: bool = False) -> Any:
        """Network outputs for `images (b, c, *s)`; shapes depend on the input's shape alone.

        Args:
            masks: `detect` shall give instance masks; only models that have them are asked.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms; their sum is optimised. A batch without objects, or without masks, is normal."""

    @abstractmethod
    def detect(self, outputs: Any) -> list[Detections]:
        """Decoded, thresholded and suppressed detections of each image, in its voxels, by falling score."""


class ModelConfig(Choice):
    """What the experimenter chooses about a model; `build` adds what the data dictates."""

    gives_masks: ClassVar[bool] = False

    @classmethod
    def of_parts(cls, name: str, parts: Mapping[str, object]) -> "ModelConfig":
        """The configuration registered as `name`, with those of `parts` that it has."""
        kind = cls.registry[name]
        return kind(**{key: value for key, value in parts.items() if key in kind.model_fields})  # type: ignore[return-value]

    def build(self, task: Task) -> Model:
        raise TypeError(f"{type(self).__name__} does not build a model; choose one of {sorted(self.registry)}")
