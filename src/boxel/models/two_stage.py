"""What the two-stage models share: the settings of both stages, and the outputs of the first."""

from typing import NamedTuple

from torch import Tensor

from boxel.models.dense import DenseOutputs
from boxel.models.pyramid import PyramidConfig
from boxel.models.roi import RoIConfig
from boxel.models.rpn import RPNConfig


class TwoStageConfig(PyramidConfig):
    """A model that classifies and refines the region proposals of its first stage."""

    rpn: RPNConfig = RPNConfig()
    roi: RoIConfig = RoIConfig()


class TwoStageOutputs(NamedTuple):
    """The detecting levels of the pyramid, and what the RPN predicts on them."""

    levels: list[Tensor]
    rpn: DenseOutputs
