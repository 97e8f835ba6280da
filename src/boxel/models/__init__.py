"""Models: one file per paper, each a configuration registered under a name and the model it builds."""

from boxel.models.base import Model, ModelConfig
from boxel.models.coarse_to_fine import CoarseConfig, CoarseToFineConfig
from boxel.models.components import ComponentsConfig
from boxel.models.dense import ATSSConfig, DenseConfig, IoUMatcherConfig, MatcherConfig
from boxel.models.det_unet import DetUNet, DetUNetConfig
from boxel.models.faster_rcnn import FasterRCNN, FasterRCNNConfig
from boxel.models.faster_rcnn_plus import FasterRCNNPlus, FasterRCNNPlusConfig
from boxel.models.first_stage import FirstStageConfig
from boxel.models.grid import PyramidGrid
from boxel.models.l_net import LNetConfig
from boxel.models.loss_terms import (
    BoxLossConfig,
    ClassLossConfig,
    FocalConfig,
    MiningConfig,
    OverlapLossConfig,
    SampledConfig,
    SmoothL1Config,
)
from boxel.models.lsnet import LSNet, LSNetConfig
from boxel.models.mask_rcnn import MaskRCNN, MaskRCNNConfig
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.retina_net import RetinaNet, RetinaNetConfig
from boxel.models.retina_unet import RetinaUNet, RetinaUNetConfig
from boxel.models.roi import RoIConfig
from boxel.models.roi_masks import MaskConfig
from boxel.models.rpn import RPNConfig
from boxel.models.semantic_net import SemanticNetConfig
from boxel.models.ufrcnn_plus import UFRCNNPlus, UFRCNNPlusConfig
from boxel.models.unet import UNet, UNetConfig
from boxel.models.yolov4 import YOLOHeadsConfig, YOLOv4, YOLOv4Config
from boxel.nn import (
    BackboneConfig,
    CSPDarknetConfig,
    FPNConfig,
    NeckConfig,
    NoNeckConfig,
    PANConfig,
    ResidualEncoderConfig,
    ResNetConfig,
    VGGConfig,
)

__all__ = [
    "ATSSConfig",
    "BackboneConfig",
    "BoxLossConfig",
    "CSPDarknetConfig",
    "ClassLossConfig",
    "CoarseConfig",
    "CoarseToFineConfig",
    "ComponentsConfig",
    "DenseConfig",
    "DetUNet",
    "DetUNetConfig",
    "FPNConfig",
    "FasterRCNN",
    "FasterRCNNConfig",
    "FasterRCNNPlus",
    "FasterRCNNPlusConfig",
    "FirstStageConfig",
    "FocalConfig",
    "IoUMatcherConfig",
    "LNetConfig",
    "LSNet",
    "LSNetConfig",
    "MaskConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MatcherConfig",
    "MiningConfig",
    "Model",
    "ModelConfig",
    "NeckConfig",
    "NoNeckConfig",
    "OverlapLossConfig",
    "PANConfig",
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
    "SampledConfig",
    "SemanticNetConfig",
    "SmoothL1Config",
    "UFRCNNPlus",
    "UFRCNNPlusConfig",
    "UNet",
    "UNetConfig",
    "VGGConfig",
    "YOLOHeadsConfig",
    "YOLOv4",
    "YOLOv4Config",
]
