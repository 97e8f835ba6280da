"""DetU-Net: a U-Net whose connected components are the detections (U-Net + heuristics).

Reference: Jaeger et al., Retina U-Net, 2018, section 3.2.
"""

from typing import ClassVar, Literal, NamedTuple

from pydantic import NonNegativeFloat
from torch import Tensor

from boxel.models.components import Components, ComponentsConfig
from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.segmentation import Segmenter, SegmentingConfig
from boxel.types import Batch, Detections, Task


class DetUNetConfig(ComponentsConfig, SegmentingConfig, name="det_unet"):
    """DetU-Net: a segmentation whose connected components are the detections."""

    segment: Literal["foreground", "classes"] = "classes"
    segmentation_weight: NonNegativeFloat = 1.0
    boxes_without_mask: Literal["ignore", "fill"] = "fill"

    def build(self, task: Task) -> "DetUNet":
        return DetUNet(**numbers_of(task), config=self)


class DetUNetOutputs(NamedTuple):
    """Segmentation logits `(b, 1 + k, *s)`, background first."""

    segmentation: Tensor


class DetUNet(PyramidModel):
    """DetU-Net (Jaeger et al., 2018). It predicts no boxes, so objects that touch are one. Loss `segmentation`.

    The anchors of the grid are not used.

    Differs from the paper: the encoder has instance norm (none), and where no object has a mask, the ellipse in each
    box is learnt (the paper has masks). `mdt_lidc_3d` and the other `mdt` recipes, with `--model det_unet`, have the
    paper's settings.

    Raises:
        ValueError: several classes, but a segmentation of the foreground only.

    Example:
        >>> import torch
        >>> from boxel.models import DetUNet
        >>> model = DetUNet(ndim=2, in_channels=1, num_classes=2).eval()
        >>> outputs = model.infer(torch.rand(1, 1, 64, 64))
        >>> model.segment(outputs).shape
        torch.Size([1, 3, 64, 64])
    """

    config_class: ClassVar[type[PyramidConfig]] = DetUNetConfig
    uses_levels: ClassVar[bool] = False

    def add_heads(self, numbers: Numbers, config: DetUNetConfig) -> None:
        if config.segment == "foreground" and numbers.num_classes > 1:
            raise ValueError(
                f"det_unet distinguishes {numbers.num_classes} classes by segmenting them; set model.segment=classes"
            )
        self.segmenter = Segmenter(numbers, self.neck.finest_channels, config)
        self.components = Components(numbers, config)

    # It always segments, and has one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> DetUNetOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return DetUNetOutputs(self.segmenter(pyramid.finest))

    def loss(self, outputs: DetUNetOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.segmenter.loss(outputs.segmentation, batch)

    def segment(self, outputs: DetUNetOutputs) -> Tensor:
        return self.segmenter.probabilities(outputs.segmentation)

    def detect(self, outputs: DetUNetOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        return self.components.detect(self.segment(outputs), masks=masks)
