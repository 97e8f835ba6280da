"""Plan the task from the fingerprint: one rule per choice, and a sentence that gives the reason."""

import math
import warnings
from typing import Literal, Self

import numpy as np
from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from boxel.config import Config
from boxel.inputs.memory import bytes_of, size_in_words
from boxel.io.claims import check_memory
from boxel.preparation.anchors import Sizes, fit_levels, mean_best_iou, retina_unet_anchors, torchvision_anchors
from boxel.preparation.fingerprint import Fingerprint
from boxel.preparation.normalisation import Kind, normalisation_rules
from boxel.preparation.patch_and_strides import by, check_length, check_multiple, choose_grid
from boxel.preparation.preprocess import SpacingUnit, stored_shape
from boxel.preparation.target_spacing import in_mm, target_spacing, typical
from boxel.ranges import Context
from boxel.strides import level_strides
from boxel.types import Task
from boxel.wording import counted, counted_of

_SOURCES = {
    "mdt": "Retina U-Net (mdt)",
    "paper": "Retina U-Net (paper)",
    "torchvision": "torchvision's Faster R-CNN",
}
# A further anchor size per level must raise the mean best IoU by this much.
ANCHOR_GAIN = 0.02


class PlanConfig(Config):
    """Settings of the plan; those that are not set follow from the data.

    Attributes:
        ndim: number of axes of the model; slice-wise models have fewer than the images.
        context: neighbouring slices on either side as further channels, for slice-wise models only.
        spacing: mm per voxel, per image axis.
        spacing_unit: `voxel`: the spacing is in voxels of each image instead of mm, and 1 by default. 1 keeps the grid
            of an image, 1.6 makes 320 voxels of 512.
        normalisation: one kind per channel: `ct`, `z_score`, `fixed` or `none`.
        means, stds: of the channels that are `fixed`, one number for each: subtracted, and divided by.
        window: lower and upper end of the values that `ct` channels are clipped to, mapped to -1 and 1; None takes the
            range and the statistics of the objects.
        patch_size: voxels per model axis.
        batch_size: patches per step.
        patch_extent: longest edge of a patch in multiples of that of large objects (99th percentile), for images much
            larger than their objects; None limits patches by the budget only.
        large_patches: images become coarser until `voxels_per_step` holds so many patches of twice the extent of large
            objects, see `boxel.preparation.target_spacing`.
        voxels_per_step: budget for `batch_size` times the voxels of a patch.
        memory: most bytes of a training step, such as "24GB"; `voxels_per_step` becomes what fits, as measured.
        strides: stride per axis of the backbone's stages C1, C2, ...; one number is for all axes.
        levels: pyramid levels that detect; the last may be one above the backbone's last stage, see
            `model.neck.extra`.
        num_anchors: sizes per position and level; None uses 1 to 3, as many as improve the fit.
        anchors: "fit" to the objects; the fixed sizes of Retina U-Net as in its code ("mdt") or its publication
            ("paper"); those of torchvision's Faster R-CNN ("torchvision": 32 voxels on P2, twice that on P3, ...); or
            sizes per level.
        max_detections: most detections per image (and per patch); None: three times the largest number of objects of
            a training case, at least 100, and in proportion more in an image larger than those.
    """

    ndim: PositiveInt | None = None
    context: Context = 0
    spacing: tuple[PositiveFloat, ...] | None = None
    spacing_unit: SpacingUnit = "mm"
    normalisation: tuple[Kind, ...] | None = None
    means: tuple[float, ...] | None = None
    stds: tuple[PositiveFloat, ...] | None = None
    window: tuple[float, float] | None = None
    patch_size: tuple[PositiveInt, ...] | None = None
    batch_size: PositiveInt | None = None
    patch_extent: PositiveFloat | None = None
    large_patches: PositiveInt = 2
    voxels_per_step: PositiveInt = 2**19
    memory: PositiveInt | None = None
    strides: tuple[tuple[PositiveInt, ...], ...] | None = None
    levels: tuple[PositiveInt, ...] | None = None
    num_anchors: PositiveInt | None = None
    anchors: Literal["fit", "mdt", "paper", "torchvision"] | tuple[tuple[tuple[PositiveFloat, ...], ...], ...] = "fit"
    max_detections: PositiveInt | None = None

    @field_validator("memory", mode="before")
    @classmethod
    def _in_words(cls, memory: object) -> object:
        return bytes_of(memory) if isinstance(memory, str) else memory

    @field_validator("window")
    @classmethod
    def _not_empty(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window and window[0] >= window[1]:
            raise ValueError("the lower end must be below the upper, such as [-100, 240]")
        return window

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        number = (self.normalisation or ()).count("fixed")
        for name, values in (("means", self.means), ("stds", self.stds)):
            if len(values or ()) != number or (values is not None and not number):
                raise ValueError(
                    f"{name} has {counted(len(values or ()), 'number')}, but normalisation has "
                    f"{counted(number, 'channel')} that {'is' if number == 1 else 'are'} fixed; give one for each, "
                    'such as normalisation=["fixed"], means=[127.5], stds=[127.5]'
                )
        return self

    def strides_for(self, ndim: int) -> tuple[tuple[int, ...], ...] | None:
        """The strides of each stage, for each of `ndim` axes."""
        return self.strides and tuple(row * ndim if len(row) == 1 else row for row in self.strides)

    def anchors_for(self, ndim: int, levels: tuple[int, ...]) -> tuple[Sizes, ...] | None:
        """The sizes on each level; None where they are fitted to the data."""
        match self.anchors:
            case "fit":
                return None
            case "torchvision":
                return tuple(torchvision_anchors(ndim, [2.0 ** (level + 3)]) for level in levels)
            case "mdt" | "paper" as preset:
                return retina_unet_anchors(ndim, levels, preset)
        return self.anchors


def plan(fingerprint: Fingerprint, config: PlanConfig = PlanConfig()) -> Task:  # noqa: B008 (frozen)
    """Plan the task of a data set.

    Raises:
        ValueError: a setting contradicts the data or another setting (names both).
    """
    why: dict[str, str] = {}
    check_settings(config, fingerprint.ndim, len(fingerprint.channels))
    ndim = _ndim(fingerprint, config, why)
    fingerprint = typical(fingerprint, config.spacing_unit)
    room = None if config.patch_size else max(1, config.voxels_per_step // config.large_patches)
    spacing = target_spacing(fingerprint, config.spacing, config.spacing_unit, why, ndim=ndim, room=room)
    grids = [stored_shape(case.shape, case.spacing, spacing, config.spacing_unit) for case in fingerprint.cases]
    sizes, shapes = _on_grid(fingerprint, grids, ndim)
    strides = config.strides_for(ndim)
    stages, levels, patch_size = choose_grid(
        sizes,
        shapes,
        in_mm(fingerprint, spacing, config.spacing_unit)[-ndim:],
        strides=strides,
        levels=config.levels,
        patch_size=config.patch_size,
        budget=max(1, config.voxels_per_step // (config.batch_size or 2)),
        extent=config.patch_extent,
        why=why,
    )
    anchors = _anchors(config, sizes, stages, levels, why)
    _check_step(config, patch_size, len(fingerprint.channels))
    return Task(
        name=fingerprint.name,
        ndim=ndim,
        channels=fingerprint.channels,
        classes=fingerprint.classes,
        spacing=spacing,
        spacing_unit=config.spacing_unit,
        normalisation=normalisation_rules(
            fingerprint, config.normalisation, config.window,
            list(zip(config.means or (), config.stds or (), strict=True)), why,
        ),
        patch_size=patch_size,
        batch_size=_batch_size(config, patch_size, why),
        strides=stages,
        levels=levels,
        anchors=anchors,
        context=config.context,
        max_detections=_max_detections(fingerprint, config, why),
        image_voxels=None if config.max_detections else int(np.median([math.prod(shape) for shape in grids])),
        masks=_masks(fingerprint, why),
        why=why,
    )  # fmt: skip


def check_settings(config: PlanConfig, image_ndim: int, num_channels: int) -> None:
    """Raise ValueError if settings fit no images of these axes and channels; nothing has to be measured for that."""
    ndim = config.ndim or image_ndim
    if ndim > image_ndim:
        raise ValueError(f"ndim {ndim}: the images have {image_ndim} axes; choose no more than that")
    if config.context and ndim == image_ndim:
        raise ValueError(f"context {config.context}: only slice-wise models have neighbours; set ndim below {ndim}")
    strides = config.strides_for(ndim) or ()
    for name, rows, length in (
        ("spacing", [config.spacing], image_ndim), ("patch_size", [config.patch_size], ndim), ("strides", strides, ndim)
    ):  # fmt: skip
        for row in filter(None, rows):
            check_length(name, row, length)
    if config.patch_size and strides:
        check_multiple(np.array(config.patch_size), np.prod(strides, axis=0))
    if config.patch_size:
        _check_step(config, config.patch_size, num_channels)


def _check_step(config: PlanConfig, patch_size: tuple[int, ...], num_channels: int) -> None:
    """Raise ValueError if the patches of a step are too large for the memory."""
    number = _patches_per_step(config, patch_size)
    size = 4 * number * num_channels * (2 * config.context + 1) * math.prod(patch_size)  # float32
    check_memory(
        f"patch_size {by(patch_size)}: {number} of them are {size_in_words(size)}", size, "choose a smaller one"
    )


def _patches_per_step(config: PlanConfig, patch_size: tuple[int, ...]) -> int:
    least = 1 if config.memory else 2
    return config.batch_size or min(max(config.voxels_per_step // math.prod(patch_size), least), 16)


def _ndim(fingerprint: Fingerprint, config: PlanConfig, why: dict[str, str]) -> int:
    ndim = config.ndim or fingerprint.ndim
    slice_wise = ndim < fingerprint.ndim
    around = f", with {counted(config.context, 'neighbour')} on either side" if config.context else ""
    why["ndim"] = f"Images have {fingerprint.ndim} axes" + (
        f"; the model sees slices of {ndim} axes{around}." if slice_wise else ", and so does the model."
    )
    return ndim


def _on_grid(fingerprint: Fingerprint, grids: list[tuple[int, ...]], ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Object extents `(n, ndim)` and image shapes `(m, ndim)` in voxels of the prepared images."""
    shapes = np.array(grids)
    ratio = shapes / np.array([case.shape for case in fingerprint.cases])
    extents = [
        np.array(case.sizes).reshape(-1, shapes.shape[1]) * r for case, r in zip(fingerprint.cases, ratio, strict=True)
    ]
    return np.maximum(np.concatenate(extents)[:, -ndim:], 1e-3), shapes[:, -ndim:]


def _anchors(
    config: PlanConfig,
    sizes: np.ndarray,
    stages: tuple[tuple[int, ...], ...],
    levels: tuple[int, ...],
    why: dict[str, str],
) -> tuple[Sizes, ...]:
    ndim = sizes.shape[1]
    strides = level_strides(stages, levels)
    fixed = config.anchors_for(ndim, levels)
    if fixed is None:
        anchors, iou = fit_levels(sizes, strides, config.num_anchors or 1)
        while config.num_anchors is None and len(anchors[0]) < 3:
            more, more_iou = fit_levels(sizes, strides, len(anchors[0]) + 1)
            if more_iou < iou + ANCHOR_GAIN:
                break
            anchors, iou = more, more_iou
        how = "fitted to the objects of the training cases"
    else:
        if config.num_anchors is not None:
            warnings.warn("num_anchors has no effect; it is used with anchors='fit' only", stacklevel=3)
        anchors, how = fixed, "as set"
        if isinstance(config.anchors, str):
            how = f"the fixed sizes of {_SOURCES[config.anchors]}"
        else:
            if len(anchors) != len(levels) or len({len(level) for level in anchors}) != 1:
                example = [[[4 * s for s in stride]] for stride in strides]
                raise ValueError(
                    f"anchors: levels {list(levels)} need a list of sizes each, equally long, such as {example}"
                )
            for size in (size for level in anchors for size in level):
                check_length("anchors", size, ndim)
        iou = mean_best_iou(sizes, anchors)
    measured = (
        f"; the mean IoU of objects with their best anchor at the same position is {iou:.2f}" if len(sizes) else ""
    )
    why["anchors"] = f"{len(anchors[0])} per position, {how}{measured}."
    return anchors


def _batch_size(config: PlanConfig, patch_size: tuple[int, ...], why: dict[str, str]) -> int:
    voxels, size = math.prod(patch_size), _patches_per_step(config, patch_size)
    why["batch_size"] = (
        f"Set to {size}."
        if config.batch_size
        else f"{size} patches of {voxels:,} voxels, from a budget of {config.voxels_per_step:,} per step"
        + (f", which fit {size_in_words(config.memory)}." if config.memory else ".")
    )
    return size


def _max_detections(fingerprint: Fingerprint, config: PlanConfig, why: dict[str, str]) -> int:
    most = int(fingerprint.objects_per_image["most"])
    number = config.max_detections or max(100, -(-3 * most // 50) * 50)
    rule = "Set to" if config.max_detections else "Three times that number, at least 100, and more in larger images:"
    why["max_detections"] = f"No image has more than {counted(most, 'object')}. {rule} {number}."
    return number


def _masks(fingerprint: Fingerprint, why: dict[str, str]) -> bool:
    masks, objects = sum(case.masks for case in fingerprint.cases), sum(len(case.labels) for case in fingerprint.cases)
    why["masks"] = (
        counted_of(masks, objects, "object", "has", "have")
        + " a mask"
        + ("." if masks else ", so masks are not trained: models learn from boxes alone.")
    )
    return masks > 0
