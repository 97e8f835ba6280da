"""The six models of the Retina U-Net papers, with the numbers of the papers or of their public toolkit.

Every number: Jaeger et al., arXiv 1811.08661, and the Medical Detection Toolkit (commit 6753237).
"""

from enum import Enum
from typing import Literal

from boxel.models import (
    DenseConfig,
    FPNConfig,
    IoUMatcherConfig,
    MaskConfig,
    MiningConfig,
    ModelConfig,
    ResNetConfig,
    RoIConfig,
    RPNConfig,
    SmoothL1Config,
)
from boxel.recipes.parts import model_with


class Sizes(Enum):
    """What differs between the models for slices and those for volumes.

    Widths of the encoder's first stage, the pyramid, the one-stage towers and the RPN (for volumes: `Source`); the IoU
    below which an anchor or RoI is background, and from which a RoI is positive; cells that RoIs are pooled to for
    boxes and masks; proposals decoded, and kept; boxes decoded in one-stage models (per batch in the toolkit: 10,000
    and 50,000).
    """

    PLANE = (48, 192, 256, 512, 0.1, 0.5, (7, 7), (14, 14), 3000, 500, 500)
    VOLUME = (18, 36, 64, None, 0.01, 0.3, (3, 7, 7), (5, 14, 14), 6000, 75, 6250)


class Source(Enum):
    """Whose numbers, where the papers and their toolkit differ.

    The anchors of P2 to P5: squares of 4 to 32 pixels, with 1 to 8 planes in 3D (arXiv 1811.08661, section 4.1), or
    twice that; the largest components of the DetU-Net, in a slice and in a volume, and whether that many of an image or
    of each class in it; the width of the RPN for volumes; the segmentation loss, eq. (1) with weight 1, or half of
    cross-entropy and foreground Dice.

    Neither the papers nor the toolkit let Retina U-Net segment the classes: the papers say that the masks of the second
    toy task hold no class. `--set model.segment=classes` does.
    """

    TOOLKIT = ("mdt", (10, 30), "class", 128, "mdt")
    PAPER = ("paper", (5, 15), "image", 64, "paper")

    def __init__(
        self,
        anchors: Literal["mdt", "paper"],
        components: tuple[int, int],
        components_per: Literal["class", "image"],
        rpn_in_volumes: int,
        segmentation_loss: Literal["mdt", "paper"],
    ) -> None:
        self.anchors = anchors
        self.components = components
        self.components_per = components_per
        self.rpn_in_volumes = rpn_in_volumes
        self.segmentation_loss = segmentation_loss


def paper_model(name: str, sizes: Sizes, source: Source, *, positives: int, components: int) -> ModelConfig:
    """One of the six models.

    Args:
        positives: most positive anchors, and RoIs, per image.
        components: most components of the DetU-Net.
    """
    width, pyramid, tower, rpn, negative, positive, pool, mask_pool, decoded, kept, candidates = sizes.value
    if sizes is Sizes.VOLUME:
        rpn = source.rpn_in_volumes
    # The toolkit does not halve the terms of the DetU-Net.
    segmentation_weight = 2.0 if name == "det_unet" and source is Source.TOOLKIT else 1.0
    matched = {"norm": "none", "softmax": True, "box_loss": SmoothL1Config()}
    final = {"min_score": 0.1, "nms_threshold": 1e-5}
    parts: dict[str, object] = {
        "backbone": ResNetConfig(depth=50, start_filters=width, stem_kernel=7, norm="none"),
        "neck": FPNConfig(filters=pyramid),
        "dense": DenseConfig(
            filters=tower,
            num_convs=4,
            matcher=IoUMatcherConfig(positive=0.5, negative=negative),
            class_loss=MiningConfig(max_positives=positives),
            candidates=candidates,
            **matched,
            **final,
        ),
        "rpn": RPNConfig(
            filters=rpn,
            matcher=IoUMatcherConfig(positive=0.7, negative=negative),
            class_loss=MiningConfig(max_positives=positives, pool_factor=10),
            per_level=False,
            candidates=decoded,
            proposals=kept,
            anchor_step=3,
            **matched,
        ),
        "roi": RoIConfig(
            pool_size=pool,
            sampling_ratio=1,
            level_rule="patch",
            filters=4 * pyramid,
            norm="none",
            per_image=2 * positives,
            positive=positive,
            negative=negative,
            negatives="hard",
            add_ground_truth=False,
            **final,
        ),
        "mask": MaskConfig(pool_size=mask_pool, norm="none"),
        "segment": "foreground" if name == "retina_unet" else "classes",
        "segmentation_loss": source.segmentation_loss,
        "segmentation_weight": segmentation_weight,
        "candidates": components,
        "candidates_per": source.components_per,
        "min_voxels": 1,  # neither drops small components
    }
    return model_with(name, parts)
