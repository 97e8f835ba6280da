"""Layers of any rank: blocks, backbones, necks, heads and losses. Importing it registers the backbones and necks."""

from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.csp_darknet import CSPDarknetConfig
from boxel.nn.fpn import FPNConfig
from boxel.nn.neck import LazyLevel, Neck, NeckConfig, NoNeckConfig, Pyramid
from boxel.nn.pan import PANConfig
from boxel.nn.residual_encoder import ResidualEncoderConfig
from boxel.nn.resnet import ResNetConfig
from boxel.nn.vgg import VGGConfig

__all__ = [
    "Backbone",
    "BackboneConfig",
    "CSPDarknetConfig",
    "FPNConfig",
    "LazyLevel",
    "Neck",
    "NeckConfig",
    "NoNeckConfig",
    "PANConfig",
    "Pyramid",
    "ResNetConfig",
    "ResidualEncoderConfig",
    "VGGConfig",
]
