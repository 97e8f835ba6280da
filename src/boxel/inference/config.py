"""The experimenter's choices about prediction."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from boxel.config import Config

Scale = Annotated[float, Field(gt=0, le=16)]


class PredictConfig(Config):
    """How a network is applied to an image.

    Attributes:
        views: `identity`, `plane` (mirrored along the last two axes: 4 views, as in the papers), or `all` axes.
        scales: factors by which the prepared image is resized along the axes of the model; every view is seen at each,
            and boxes, masks and segmentation return to the image's own grid. 1 is the size of the training images.
        tile_voxels: tiles grow from the patch towards the whole image, up to this many voxels and as the memory allows;
            None keeps the patch.
        memory: GiB that the network may take for a batch of tiles, of which at least one patch is seen; None allows
            0.5 or, on a GPU, half of its free memory, and always as many voxels as a training batch has.
        overlap: smallest overlap of neighbouring tiles, as a share of the tile.
        coverage: the tiles that are expected to vote for an object: those that contain it `whole`, or, as in the
            papers, the `mean` number of tiles over it.
        checkpoints: how many of the run's best checkpoints vote; None takes all that were kept.
        masks: predict instance masks with the boxes, if the model has them.
        segmentation: also segment the image: the mean over tiles, views, scales and checkpoints, on the original grid.
        calibrate: scores become probabilities that a detection is right, by the curve of each class that was fitted to
            the run's validation cases; their order within a class stays the same.
        batch_size: tiles per batch; None takes as many as hold the voxels of a training batch.
        precision: of the network; `auto` is bf16 on devices that compute in it, fp32 on the CPU.
    """

    views: Literal["identity", "plane", "all"] = "plane"
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1)
    tile_voxels: int | None = Field(None, ge=1)
    memory: float | None = Field(None, gt=0)
    overlap: float = Field(0.25, ge=0, lt=1)
    coverage: Literal["whole", "mean"] = "whole"
    checkpoints: int | None = Field(None, ge=1)
    masks: bool = False
    segmentation: bool = False
    calibrate: bool = True
    batch_size: int | None = Field(None, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @field_validator("scales")
    @classmethod
    def _unique(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(scales)) < len(scales):
            raise ValueError("a scale occurs twice; give each once, such as [0.8, 1, 1.25]")
        return scales
