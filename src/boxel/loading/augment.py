"""Augmentation of image, label map and boxes together: parameters are sampled, applied, and inverted on boxes.

One composed affine map and elastic field, one interpolation, on the device of the batch. Boxes of objects with a mask
are those of the transformed mask; other boxes are carried as the hull of their inscribed ellipsoid, which unlike a
hull of corners does not swell under rotation.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, field_validator
from torch import Tensor
from torch.nn import functional as F

from boxel.config import Config
from boxel.loading.mosaic import compose, cut_boxes
from boxel.nn import nd
from boxel.ops.masks import boxes_from_label_map
from boxel.ranges import ZeroToOne
from boxel.types import Batch, Instances

# A larger exponent, or a magnification out of this range, leaves nothing of an image.
Exponent = Annotated[float, Field(ge=0, le=10)]
Magnification = Annotated[float, Field(ge=0.01, le=100)]


class AugmentConfig(Config):
    """Ranges and probabilities of random changes to training patches.

    Attributes:
        mirror: probability of mirroring, per axis.
        spatial: probability of rotating and scaling, and of an elastic field.
        rotate: largest angle in degrees, in each plane of `rotate_planes`.
        in_plane: rotate within the last two axes only (anisotropic voxels).
        scale: smallest and largest magnification.
        elastic: largest displacement in voxels of a smooth random field.
        jitter: each border of a patch moves by up to this share of the patch, in or out, which changes its place, size
            and aspect ratio; in every patch, as in Darknet, where it is 0.3.
        mosaic: probability that an image is composed of parts of four images of the batch, see `boxel.loading.mosaic`.
        intensity: probability of each of the intensity changes below.
        noise, blur, brightness, contrast, gamma, saturation, hue: strength of the intensity changes, each with
            probability `intensity`. Saturation scales what distinguishes the channels of an image, by a factor of at
            most its exponential; hue turns the three channels about their mean, by at most this share of a full turn.
    """

    mirror: ZeroToOne = 0.5
    spatial: ZeroToOne = 0.3
    rotate: float = Field(30.0, ge=0, le=360)
    in_plane: bool = False
    scale: tuple[Magnification, Magnification] = (0.8, 1.25)
    elastic: NonNegativeFloat = 0.0
    jitter: float = Field(0.0, ge=0, lt=0.5)
    mosaic: ZeroToOne = 0.0
    intensity: ZeroToOne = 0.15
    noise: NonNegativeFloat = 0.1
    blur: float = Field(1.0, ge=0, le=100)
    brightness: NonNegativeFloat = 0.2
    contrast: ZeroToOne = 0.25
    gamma: Exponent = 0.3
    saturation: Exponent = 0.0
    hue: float = Field(0.0, ge=0, le=0.5)

    @field_validator("scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the smallest magnification comes first, such as [0.8, 1.25]")
        return scale

    @property
    def margin(self) -> float:
        """Size of the region to read, relative to the patch, so that a rotated patch seldom exceeds it."""
        turned = 1.0 if self.spatial == 0 or (self.rotate == 0 and self.scale[0] >= 1) else 1.2
        return max(turned, 1 + 2 * self.jitter)

    def check_channels(self, channels: Sequence[str], context: int) -> None:
        """Raise where changes of colour are asked for, but the channels of an image are no colours."""
        if (self.saturation or self.hue) and (len(channels) != 3 or context):
            seen = f"{len(channels)}" + (f" on each of {2 * context + 1} slices" if context else "")
            raise ValueError(
                "train.augment.saturation and train.augment.hue change the colours of images with three channels and "
                f"no context; these have {seen}: leave them at 0"
            )


NO_AUGMENTATION = AugmentConfig(mirror=0.0, spatial=0.0, intensity=0.0)


@dataclass(frozen=True)
class Spatial:
    """Per image: `matrix (b, d, d)` from patch to region offsets about their centres, coarse `field (b, d, *g)`.

    `shift (b, d)` moves the patch before that, in shares of its size.
    """

    matrix: Tensor
    field: Tensor | None
    shift: Tensor | None = None

    def invert_boxes(self, boxes: Float[Tensor, "n 2 d"], image: int, region: Tensor, patch: Tensor) -> Tensor:
        """Boxes in region voxels carried to patch voxels, as hulls of inscribed ellipsoids."""
        inverse = torch.linalg.inv(self.matrix[image])
        centre, half = boxes.mean(1) - region / 2, (boxes[:, 1] - boxes[:, 0]) / 2
        centre = centre @ inverse.T + patch / 2
        if self.shift is not None:
            centre = centre - self.shift[image] * patch
        half = ((inverse[None] * half[:, None, :]) ** 2).sum(-1).sqrt()
        return torch.stack([centre - half, centre + half], dim=1)


def sample_spatial(config: AugmentConfig, batch: int, ndim: int, generator: torch.Generator) -> Spatial:
    """Random affine maps and elastic fields, drawn on the CPU so that devices agree."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    matrices, shifts = [], []
    for _ in range(batch):
        matrix = torch.diag(1.0 - 2.0 * (torch.rand(ndim, generator=generator) < config.mirror).float())
        if uniform(0, 1) < config.spatial:
            planes = list(itertools.combinations(range(ndim), 2))
            for a, b in planes[-1:] if config.in_plane else planes:
                angle = math.radians(uniform(-config.rotate, config.rotate))
                turn = torch.eye(ndim)
                turn[a, a] = turn[b, b] = math.cos(angle)
                turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
                matrix = matrix @ turn
            low, high = config.scale
            matrix = matrix / math.exp(uniform(math.log(low), math.log(high)))
        if config.jitter:
            lower, upper = config.jitter * (torch.rand((2, ndim), generator=generator) * 2 - 1)
            extent = 1 + upper - lower
            matrix = matrix * extent  # of the patch's axes, which are the columns
            shifts.append((lower + upper) / 2 / extent)
        matrices.append(matrix)
    field = None
    if config.elastic > 0:
        coarse = torch.rand((batch, ndim) + (5,) * ndim, generator=generator) * 2 - 1
        on = (torch.rand(batch, generator=generator) < config.spatial).view(-1, 1, *(1,) * ndim)
        field = coarse * on * config.elastic
    return Spatial(torch.stack(matrices), field, torch.stack(shifts) if shifts else None)


def apply_spatial(batch: Batch, spatial: Spatial, patch_size: tuple[int, ...]) -> Batch:
    """The batch's regions seen through the maps, cut to `patch_size`."""
    if batch.label_maps is None:
        raise ValueError("the batch has no label_maps; patches of the store have them")
    images, device = batch.images, batch.images.device
    region = torch.tensor(images.shape[2:], device=device, dtype=torch.float32)
    patch = torch.tensor(patch_size, device=device, dtype=torch.float32)
    parts = (spatial.matrix, spatial.field, spatial.shift)
    spatial = Spatial(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]
    only_matrix = spatial.field is None and spatial.shift is None
    if only_matrix and bool((spatial.matrix.abs() == torch.eye(len(patch), device=device)).all()):
        images, label_maps = _mirror(images, batch.label_maps, spatial.matrix, patch_size)
    else:
        grid = _grid(spatial, region, patch_size)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        ids = batch.label_maps[:, None].float()  # exact up to 2**24 objects
        label_maps = F.grid_sample(ids, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0].int()
    instances = [
        _carry(objects, label_map, spatial, image, region, patch)
        for image, (objects, label_map) in enumerate(zip(batch.instances, label_maps, strict=True))
    ]
    ignored = []
    for image, boxes in enumerate(batch.ignored):
        boxes, real = cut_boxes(spatial.invert_boxes(boxes, image, region, patch), patch)
        ignored.append(boxes[real])
    return replace(batch, images=images, label_maps=label_maps, instances=instances, ignored=ignored)


def _mirror(
    all_images: Tensor, all_label_maps: Tensor, matrix: Tensor, patch_size: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Exact mirroring, without interpolation."""
    images, label_maps = [], []
    for image, label_map, m in zip(all_images, all_label_maps, matrix, strict=True):
        cut = tuple(slice((r - p) // 2, (r - p) // 2 + p) for r, p in zip(label_map.shape, patch_size, strict=True))
        axes = [axis for axis, sign in enumerate(m.diagonal().tolist()) if sign < 0]
        label_maps.append(label_map.flip(axes)[cut])
        images.append(image.flip([axis + 1 for axis in axes])[(slice(None), *cut)])
    return torch.stack(images), torch.stack(label_maps)


def _grid(spatial: Spatial, region: Tensor, patch_size: tuple[int, ...]) -> Tensor:
    axes = [torch.arange(size, device=region.device) + 0.5 - size / 2 for size in patch_size]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (*s, d)
    where = torch.einsum("bij,...j->b...i", spatial.matrix, offsets)
    if spatial.shift is not None:
        moved = torch.einsum(
            "bij,bj->bi", spatial.matrix, spatial.shift * torch.tensor(patch_size, device=region.device)
        )
        where = where + moved.view(-1, *(1,) * len(patch_size), len(patch_size))
    if spatial.field is not None:
        field = nd.resize(spatial.field, patch_size, linear=True)
        where = where + field.movedim(1, -1)
    return (where / (region / 2)).flip(-1)  # grid_sample wants -1..1, last axis first


def _carry(
    objects: Instances[Tensor], label_map: Tensor, spatial: Spatial, image: int, region: Tensor, patch: Tensor
) -> Instances[Tensor]:
    boxes = spatial.invert_boxes(objects.boxes, image, region, patch)
    masked, seen = boxes_from_label_map(label_map, objects.ids)
    boxes = torch.where(objects.has_mask[:, None, None], masked, boxes)
    boxes, real = cut_boxes(boxes, patch)
    return replace(objects, boxes=boxes)[real & (seen | ~objects.has_mask)]


def change_intensity(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Noise, blur, brightness, contrast, gamma and colours, each per image with probability `config.intensity`."""
    out = []
    for image in images:
        chosen = (torch.rand(5, generator=generator) < config.intensity).tolist()
        strength = (torch.rand(5, generator=generator) * 2 - 1).tolist()
        if chosen[0]:
            noise = torch.randn(image.shape, generator=generator).to(image)
            image = image + noise * config.noise * abs(strength[0])
        if chosen[1]:
            image = blur(image, config.blur * abs(strength[1]))
        if chosen[2]:
            image = image + config.brightness * strength[2]
        if chosen[3]:
            image = image * (1 + config.contrast * strength[3])
        if chosen[4]:
            low, span = image.min(), (image.max() - image.min()).clamp(min=1e-6)
            image = ((image - low) / span) ** math.exp(config.gamma * strength[4]) * span + low
        if config.saturation or config.hue:
            image = change_colour(image, config, generator)
        out.append(image)
    return torch.stack(out)


def change_colour(image: Float[Tensor, "3 *s"], config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Saturation and hue, each with probability `config.intensity`; the mean over the channels stays."""
    chosen = (torch.rand(2, generator=generator) < config.intensity).tolist()
    strength = (torch.rand(2, generator=generator) * 2 - 1).tolist()
    grey = image.mean(0, keepdim=True)
    colour = image - grey
    if chosen[0]:
        colour = colour * math.exp(config.saturation * strength[0])
    if chosen[1]:
        angle = 2 * math.pi * config.hue * strength[1]
        across = (colour.roll(1, 0) - colour.roll(-1, 0)) / math.sqrt(3)  # at a right angle to the colour and to grey
        colour = math.cos(angle) * colour + math.sin(angle) * across
    return grey + colour


def blur(image: Float[Tensor, "c *s"], sigma: float) -> Tensor:
    """Gaussian blur, one axis at a time."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / max(sigma, 0.1)) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    for axis in range(1, image.ndim):
        lines = image.movedim(axis, -1)
        flat = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (radius, radius), mode="replicate")
        image = F.conv1d(flat, kernel).reshape(lines.shape).movedim(-1, axis)
    return image


def augment(batch: Batch, config: AugmentConfig, patch_size: tuple[int, ...], generator: torch.Generator) -> Batch:
    """The augmented batch; the same state of the generator gives the same batch."""
    spatial = sample_spatial(config, len(batch.images), len(patch_size), generator)
    batch = apply_spatial(batch, spatial, patch_size)
    batch = replace(batch, images=change_intensity(batch.images, config, generator))
    return compose(batch, config.mosaic, generator) if config.mosaic else batch
