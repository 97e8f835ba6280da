"""Layers of any rank: blocks, backbones, necks, heads and losses. Importing it registers the backbones."""

from boxel.nn.residual_encoder import ResidualEncoderConfig
from boxel.nn.resnet import ResNetConfig

__all__ = ["ResNetConfig", "ResidualEncoderConfig"]
