"""Models: one file per paper, each a configuration registered under a name and the model it builds."""

from boxel.models.base import Model, ModelConfig
from boxel.models.det_unet import DetUNetConfig
from boxel.models.rcnn import FasterRCNNPlusConfig, MaskRCNNConfig, UFRCNNPlusConfig
from boxel.models.retina_net import RetinaNetConfig
from boxel.models.retina_unet import RetinaUNetConfig

__all__ = [
    "DetUNetConfig",
    "FasterRCNNPlusConfig",
    "MaskRCNNConfig",
    "Model",
    "ModelConfig",
    "RetinaNetConfig",
    "RetinaUNetConfig",
    "UFRCNNPlusConfig",
]
