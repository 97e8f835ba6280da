"""Rules for strides, pyramid levels and patch size, which depend on each other."""

import numpy as np

from boxel.preparation.anchors import cells_spanned, level_for

MAX_STAGES = 6
MAX_LEVELS = 5
# Cells per axis that the coarsest feature map keeps (nnU-Net's rule).
MIN_CELLS = 4
# Least number of stages of the backbone, if the patch has room: the lower levels need their context.
MIN_STAGES = 4
# Least share of a patch that the median image fills; the rest is padding, of which a step learns nothing.
LEAST_FILLED = 0.5
# P1 detects only if small objects span fewer cells than this on P2: it costs 2^d times as much as P2.
SMALL_CELLS = 1.5

Strides = tuple[tuple[int, ...], ...]


def choose_grid(
    sizes: np.ndarray,
    shapes: np.ndarray,
    spacing: tuple[float, ...],
    *,
    strides: Strides | None,
    levels: tuple[int, ...] | None,
    patch_size: tuple[int, ...] | None,
    budget: int,
    extent: float | None = None,
    why: dict[str, str],
) -> tuple[Strides, tuple[int, ...], tuple[int, ...]]:
    """Choose the strides per stage, the detecting levels and the patch size; given ones are kept.

    Args:
        sizes: extents `(n, d)` of the objects, in voxels of the target spacing.
        shapes: shapes `(m, d)` of the images, in voxels of the target spacing.
        budget: most voxels of a patch.
        extent: longest edge of a patch in multiples of that of large objects (None: limited by the budget only).
        why: receives a sentence for each choice.

    Raises:
        ValueError: the given values contradict each other.
    """
    large = np.percentile(sizes, 99, axis=0) if len(sizes) else np.zeros(shapes.shape[1])
    need = np.minimum(1.5 * large, np.percentile(shapes, 90, axis=0))
    room = np.maximum(np.median(shapes, axis=0), need)
    if extent and len(sizes):
        room = np.maximum(np.minimum(room, extent / 1.5 * need), need)
    start = patch_size or fit_patch(room, need, np.ones_like(room), spacing, budget)
    stages = strides or choose_strides(start, spacing)
    chosen = choose_levels(levels, sizes, stages, why)
    # Stages beyond the last detecting level, if the patch has room for them, give it context.
    stages = strides or stages[: max(chosen[-1] + 1, MIN_STAGES)]
    patch = np.array(patch_size or fit_patch(room, need, np.prod(stages, axis=0), spacing, budget))
    median = np.median(shapes, axis=0)
    while not patch_size and np.prod(np.minimum(1, median / patch)) < LEAST_FILLED:
        if (np.maximum(room, need) > median).any():
            room, need = np.minimum(room, median), np.minimum(need, median)
        elif not strides and len(stages) > chosen[-1]:
            stages = stages[:-1]
        else:
            break
        patch = fit_patch(room, need, np.prod(stages, axis=0), spacing, budget)
    unit = np.prod(stages, axis=0)
    listed = ", ".join(f"C{k} {by(stage)}" for k, stage in enumerate(stages, start=1))
    why["strides"] = f"{listed}, total {by(unit)}: " + (
        "as set."
        if strides
        else f"an axis twice as coarse as the finest is not strided yet, feature maps keep {MIN_CELLS} cells per axis, "
        "and if there is room the stages extend one beyond the last detecting level, "
        f"and to C{MIN_STAGES} at least; not if more than half of a patch were padding."
    )
    check_multiple(patch, unit)
    why["patch_size"] = f"{by(patch)}: " + (
        "as set." if patch_size else _why_patch(patch, shapes, unit, budget, extent)
    )
    if len(sizes):
        why["patch_size"] += (
            f" It holds objects of {by(large)} voxels (99th percentile)."
            if (patch >= large).all()
            else f" Objects of {by(large)} voxels (99th percentile) exceed it: "
            f"consider a coarser spacing or {'a larger patch_size' if patch_size else 'more voxels_per_step'}."
        )
    return stages, chosen, tuple(patch.astype(int).tolist())


def _why_patch(patch: np.ndarray, shapes: np.ndarray, unit: np.ndarray, budget: int, extent: float | None) -> str:
    median, largest = np.median(shapes, axis=0), shapes.max(axis=0)
    covered = (
        f"it covers the largest image ({by(largest)})"
        if (patch >= largest).all()
        else f"it covers the median image ({by(median)}), the largest ({by(largest)}) needs several"
        if (patch >= median).all()
        else f"its edges are {extent:g} times those of large objects, so that a step sees more of them"
        if extent and patch.prod() <= budget / 2
        else f"images (median {by(median)}) exceed the budget of {budget:,} voxels per patch"
    )
    return f"{covered}; a multiple of the total stride {by(unit)}."


def fit_patch(
    shape: np.ndarray, need: np.ndarray, unit: np.ndarray, spacing: tuple[float, ...], budget: int
) -> np.ndarray:
    """The largest patch with edges equal in mm, within `shape` (rounded up to `unit`) and the budget.

    It has at least `need` voxels per axis, if the budget allows that.
    """

    def patch(edge: float, least: np.ndarray) -> np.ndarray:
        target = np.maximum(np.minimum(shape, edge / np.array(spacing)), least)
        return np.maximum(np.ceil(target / unit - 1e-9), 1) * unit

    least = need if patch(0.0, need).prod() <= budget else np.zeros_like(need)
    low, high = 0.0, float((shape * spacing).max())
    if patch(high, least).prod() <= budget:
        return patch(high, least)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if patch(middle, least).prod() <= budget else (low, middle)
    return patch(low, least)


def choose_strides(shape: np.ndarray | tuple[int, ...], spacing: tuple[float, ...]) -> Strides:
    """Per stage, stride 2 along the finest axes and those less than twice as coarse, 1 along axes with few cells."""
    stages: list[tuple[int, ...]] = []
    cells, mm = np.array(shape, float), np.array(spacing)
    while len(stages) < MAX_STAGES:
        able = cells >= 2 * MIN_CELLS
        if not able.any() and stages:
            break
        able = able if able.any() else np.ones_like(able)  # an image of a few voxels: it will be padded
        stride = np.where(able & (mm < 2 * mm[able].min()), 2, 1)
        stages.append(tuple(stride.tolist()))
        cells, mm = cells / stride, mm * stride
    return tuple(stages)


def choose_levels(
    config_levels: tuple[int, ...] | None, sizes: np.ndarray, stages: Strides, why: dict[str, str]
) -> tuple[int, ...]:
    """Pyramid levels on which the objects, from small to large, span about four cells."""
    if config_levels:
        levels = tuple(sorted(config_levels))
        if len(set(levels)) < len(levels):
            raise ValueError(f"levels {levels}: a level occurs twice; give each once")
        if levels[-1] > len(stages) + 1:
            raise ValueError(
                f"levels {levels}: the backbone has {len(stages)} stages, so the last level is {len(stages)}, or "
                f"{len(stages) + 1} with model.neck.extra=pool"
            )
        why["levels"] = f"Set to {_names(levels)}."
        if levels[-1] > len(stages):
            why["levels"] += f" The last has every second cell of P{len(stages)} (model.neck.extra=pool)."
        return levels
    strides, last = np.cumprod(np.array(stages), axis=0), len(stages)
    if not len(sizes):
        why["levels"] = "The training cases have no objects: the usual levels from P2 on."
        return tuple(range(min(2, last), min(last, MAX_LEVELS + 1) + 1))
    cells = cells_spanned(sizes, strides)
    small, large = np.percentile(cells, (10, 99), axis=1)
    floor = 2 if small[min(2, last) - 1] >= SMALL_CELLS else 1
    lowest = min(max(floor, int(level_for(small))), last)
    highest = min(max(lowest, int(level_for(large))), lowest + MAX_LEVELS - 1)
    levels = tuple(range(lowest, highest + 1))
    why["levels"] = (
        f"{_names(levels)} (strides {', '.join(by(strides[k - 1]) for k in levels)}): "
        f"small objects (10th percentile) span {small[lowest - 1]:.1f} cells on P{lowest}, "
        f"large ones (99th) {large[highest - 1]:.1f} on P{highest}."
    )
    return levels


def by(values: np.ndarray | tuple[float, ...]) -> str:
    """Numbers per axis as text, such as `3x4.5x4.5`."""
    return "x".join(f"{value:.10g}" for value in np.round(np.asarray(values, float), 2))


def check_multiple(patch: np.ndarray, unit: np.ndarray) -> None:
    """Raise ValueError unless the edges of a patch are multiples of the total stride."""
    if (patch % unit).any():
        nearest = np.ceil(patch / unit) * unit
        raise ValueError(f"patch_size {by(patch)} must be a multiple of the total stride {by(unit)}; use {by(nearest)}")


def check_length(name: str, values: tuple[float, ...], ndim: int) -> None:
    """Raise ValueError unless there is one value for each axis."""
    if len(values) != ndim:
        raise ValueError(f"{name} {tuple(values)} has {len(values)} numbers; there are {ndim} axes, give one for each")


def _names(levels: tuple[int, ...]) -> str:
    return ", ".join(f"P{level}" for level in levels)
