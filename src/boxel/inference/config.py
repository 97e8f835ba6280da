"""What the experimenter chooses about prediction."""

from typing import Literal

from boxel.config import Config


class PredictConfig(Config):
    """How images are looked at.

    Attributes:
        views: `identity`, `plane` (mirrored on the last two axes: 4 views, as in the papers), or `all` axes.
        tile_voxels: tiles grow from the patch towards the whole image, up to so many voxels; None keeps the patch.
        overlap: least overlap of neighbouring tiles, as a share of the tile.
        coverage: which tiles are expected to vote for an object: those that contain it `whole`, or, as in the papers,
            the `mean` number of tiles over it.
        checkpoints: how many of the run's best checkpoints vote; None takes all that were kept.
        masks: give instance masks with the boxes, where the model has them.
        batch_size: tiles at a time; None takes as many as hold the voxels of a training batch.
        precision: of the network; `auto` is bf16 on devices that compute in it, fp32 on the CPU.
    """

    views: Literal["identity", "plane", "all"] = "plane"
    tile_voxels: int | None = None
    overlap: float = 0.25
    coverage: Literal["whole", "mean"] = "whole"
    checkpoints: int | None = None
    masks: bool = False
    batch_size: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
