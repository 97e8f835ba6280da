"""Layers of any rank: blocks, backbones, necks, heads and losses. Importing it registers the backbones and necks."""

from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.fpn import FPNConfig
from boxel.nn.neck import LazyLevel, Neck, NeckConfig, Pyramid
from boxel.nn.residual_encoder import ResidualEncoderConfig
from boxel.nn.resnet import ResNetConfig

__all__ = [
    "Backbone",
    "BackboneConfig",
    "FPNConfig",
    "LazyLevel",
    "Neck",
    "NeckConfig",
    "Pyramid",
    "ResNetConfig",
    "ResidualEncoderConfig",
]
