"""The first stage of L-SNet and of coarse-to-fine segmentation: where objects are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from boxel.config import Choice
from boxel.models.grid import Numbers
from boxel.types import Batch, Detections


class FirstStageConfig(Choice):
    """How objects are located."""

    default: ClassVar[str] = "l_net"

    def build(self, numbers: Numbers, in_channels: int) -> "FirstStage":
        raise TypeError(
            f"{type(self).__name__} builds no first stage; choose one of {', '.join(sorted(self.registry))}"
        )


class FirstStage(nn.Module, ABC):
    """A network that locates objects."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c *s"]) -> Any:
        """The outputs that the other methods take; their shapes depend on that of the images alone."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms."""

    @abstractmethod
    def propose(self, outputs: Any) -> Float[Tensor, "b 2 d"]:
        """One box per image, from which the second stage learns."""

    @abstractmethod
    def locate(self, outputs: Any, shape: Sequence[int]) -> list[Detections[Tensor]]:
        """The objects of each image of `shape`, best first."""
