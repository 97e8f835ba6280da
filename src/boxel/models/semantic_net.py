"""A network that segments an image: U-Net, Attention U-Net or FCN; the second stage of L-SNet, and its rivals alone.

Reference: L-SNet, sections 2.3 and 2.5; Ronneberger et al., U-Net, 2015; Oktay et al., Attention U-Net, 2018; Long et
al., FCN, 2015.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from boxel.config import Config
from boxel.models.base import ModelConfig
from boxel.models.grid import Numbers
from boxel.models.loss_terms import map_loss
from boxel.models.segmentation import segmentation_target
from boxel.nn import BackboneConfig, ResNetConfig, nd
from boxel.nn.blocks import Norm
from boxel.nn.decoders import FCNDecoder, UNetDecoder
from boxel.ranges import Width
from boxel.types import Batch

Decoder = Literal["unet", "attention_unet", "fcn"]
MapLoss = Literal["focal_dice", "bce"]


class SemanticConfig(ModelConfig):
    """A model that segments all classes, and whose detections have masks."""

    gives_masks: ClassVar[bool] = True
    segments: ClassVar[bool] = True

    def segmentation_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        return tuple(classes)


class SemanticNetConfig(Config):
    """An encoder and a decoder that segment.

    Attributes:
        decoder: `unet` concatenates the encoder's features, `attention_unet` also weighs them by attention gates, `fcn`
            sums projections of them.
        filters: width of the decoder at C2 (stride 4); a U-Net's levels are twice as wide from one to the next, an
            FCN's are all equal.
        class_loss: `focal_dice` is the focal loss with 0.2 times the Dice loss, `bce` the cross-entropy.
        boxes_without_mask: what the inside of an object known by its box alone counts as: `ignore` leaves it out of
            the loss, `fill` takes the ellipse that touches the sides of the box for the object.
    """

    backbone: BackboneConfig = ResNetConfig(depth=34, start_filters=64, norm="batch")
    decoder: Decoder = "unet"
    filters: Width = 64
    class_loss: MapLoss = "focal_dice"
    boxes_without_mask: Literal["ignore", "fill"] = "fill"


class SemanticNet(nn.Module):
    """Logits `(b, o, *s)`: one channel for one class, else background first.

    Raises:
        ValueError: the data set has no masks, and the configuration does not fill boxes.
    """

    def __init__(self, numbers: Numbers, in_channels: int, config: SemanticNetConfig) -> None:
        super().__init__()
        if not numbers.masks and config.boxes_without_mask == "ignore":
            raise ValueError(
                "no object of the data set has a mask, and this model learns from masks alone; set "
                "boxes_without_mask=fill of its network, or choose a detector, such as retina_net"
            )
        ndim, strides = numbers.ndim, numbers.grid.strides
        self.config, self.softmax = config, numbers.num_classes > 1
        self.encoder = config.backbone.build(ndim, in_channels, strides, full_resolution=False)
        self.decoder, self.level = build_decoder(
            config.decoder,
            ndim,
            self.encoder.channels,
            config.filters,
            config.backbone.decoder_norm,
            full_resolution=True,
        )
        outputs = numbers.num_classes + self.softmax
        kernel = 1 if config.decoder == "fcn" else 3
        self.head = nd.CONV[ndim](self.decoder.channels, outputs, kernel, padding=kernel // 2)
        if config.decoder != "fcn":
            self._expect_background(share=0.99)

    def _expect_background(self, share: float) -> None:
        """Let voxels without features be background at the start, with this probability.

        The features of a U-Net end with a ReLU. From equal probabilities, networks learn to say background by features
        and foreground by their absence, whose probability is that of the bias alone: it may stay below one half.
        """
        classes = len(self.head.bias) - self.softmax  # type: ignore[arg-type]
        with torch.no_grad():
            self.head.bias.fill_(-math.log(share / (1 - share) * (classes if self.softmax else 1)))  # type: ignore[union-attr]
            if self.softmax:
                self.head.bias[0] = 0.0  # type: ignore[index]

    def forward(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b o *s"]:
        shape = images.shape[2:]
        features = self.encoder(images)[self.level - 1 :]
        return nd.resize(self.head(self.decoder(features, shape)), shape, linear=True)

    def probabilities(self, logits: Float[Tensor, "b o *s"]) -> Float[Tensor, "b k *s"]:
        """Class probabilities, background first."""
        if self.softmax:
            return logits.float().softmax(1)
        foreground = logits.float().sigmoid()
        return torch.cat([1 - foreground, foreground], 1)

    def target(self, batch: Batch) -> Int[Tensor, "b *s"]:
        """0 for background, 1 + k for class k, -1 for voxels that do not count."""
        return segmentation_target(batch, by_class=True, fill=self.config.boxes_without_mask == "fill")

    def loss(self, logits: Float[Tensor, "b o *s"], target: Int[Tensor, "b *s"]) -> Float[Tensor, ""]:
        """The loss of a target as `target` gives it."""
        channels = torch.arange(0 if self.softmax else 1, logits.shape[1] + (not self.softmax), device=target.device)
        one_hot = (target[:, None] == channels.reshape(1, -1, *[1] * (target.ndim - 1))).float()
        return map_loss(
            logits, one_hot, form=self.config.class_loss, softmax=self.softmax, valid=(target >= 0)[:, None]
        )


def build_decoder(
    kind: Decoder, ndim: int, channels: Sequence[int], filters: int, norm: Norm, *, full_resolution: bool
) -> tuple[UNetDecoder | FCNDecoder, int]:
    """A decoder of the features of an encoder, and the level of the finest of them that it takes.

    It leads to full resolution, or to level 2 (stride 4). An FCN always ends at level 2, where `filters` are counted.

    Args:
        channels: of the encoder's features C1, C2, ..., finest first.
        norm: of a U-Net.
    """
    if len(channels) < 2:
        raise ValueError(f"the encoder has {len(channels)} strided stage; a decoder needs two: choose larger patches")
    level = min(2, len(channels) - 1)
    if kind == "fcn":
        return FCNDecoder(ndim, channels[level - 1 :], filters), level
    lowest = 0 if full_resolution else level
    widths = [max(1, int(filters * 2.0 ** (k - level))) for k in range(len(channels) - 1, lowest - 1, -1)]
    return UNetDecoder(
        ndim, channels[max(lowest - 1, 0) :], widths, norm=norm, attention=kind == "attention_unet"
    ), max(lowest, 1)
