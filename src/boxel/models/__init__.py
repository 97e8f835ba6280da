"""Models: one file per paper, each a configuration registered under a name and the model it builds."""

from boxel.models.base import Model, ModelConfig
from boxel.models.dense import ATSSConfig, DenseConfig, IoUMatcherConfig, MatcherConfig
from boxel.models.det_unet import DetUNet, DetUNetConfig
from boxel.models.faster_rcnn_plus import FasterRCNNPlus, FasterRCNNPlusConfig
from boxel.models.grid import PyramidGrid
from boxel.models.loss_terms import (
    BoxLossConfig,
    ClassLossConfig,
    FocalConfig,
    MiningConfig,
    OverlapLossConfig,
    SmoothL1Config,
)
from boxel.models.mask_rcnn import MaskRCNN, MaskRCNNConfig
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.retina_net import RetinaNet, RetinaNetConfig
from boxel.models.retina_unet import RetinaUNet, RetinaUNetConfig
from boxel.models.roi import RoIConfig
from boxel.models.roi_masks import MaskConfig
from boxel.models.rpn import RPNConfig
from boxel.models.ufrcnn_plus import UFRCNNPlus, UFRCNNPlusConfig
from boxel.nn import BackboneConfig, FPNConfig, NeckConfig, ResidualEncoderConfig, ResNetConfig

__all__ = [
    "ATSSConfig",
    "BackboneConfig",
    "BoxLossConfig",
    "ClassLossConfig",
    "DenseConfig",
    "DetUNet",
    "DetUNetConfig",
    "FPNConfig",
    "FasterRCNNPlus",
    "FasterRCNNPlusConfig",
    "FocalConfig",
    "IoUMatcherConfig",
    "MaskConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MatcherConfig",
    "MiningConfig",
    "Model",
    "ModelConfig",
    "NeckConfig",
    "OverlapLossConfig",
    "PyramidConfig",
    "PyramidGrid",
    "PyramidModel",
    "RPNConfig",
    "ResNetConfig",
    "ResidualEncoderConfig",
    "RetinaNet",
    "RetinaNetConfig",
    "RetinaUNet",
    "RetinaUNetConfig",
    "RoIConfig",
    "SmoothL1Config",
    "UFRCNNPlus",
    "UFRCNNPlusConfig",
]
