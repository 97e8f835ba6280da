"""Anchor sizes that suit the objects of a data set."""

import torch
from jaxtyping import Float, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_extents
from boxel.ops.number_types import as_float, as_floats

_MOST = 2048  # objects considered; more of them change the result less than restarts do
_RATE, _LAST, _DECAYS = 0.03, 0.05, (0.9, 0.999)  # of the ascent: first rate, last one relative to it, averages


@numpy_too
def best_iou(sizes: Real[Tensor, "n d"], anchor_sizes: Real[Tensor, "a d"]) -> Float[Tensor, " n"]:
    """Return the IoU of each object with the anchor that suits it best, both centred on the same point.

    Args:
        sizes: `(n, d)` extents of the objects, in voxels.
        anchor_sizes: `(a, d)` voxels.

    Raises:
        ValueError: no anchor, an extent that is not positive, or sizes of different rank; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import best_iou
        >>> best_iou(np.array([[10.0, 10.0], [4.0, 8.0]]), np.array([[8.0, 8.0], [4.0, 4.0]])).tolist()
        [0.64, 0.5]
    """
    sizes, anchor_sizes = as_floats(sizes, anchor_sizes)
    check_extents("sizes", sizes)
    check_extents("anchor_sizes", anchor_sizes)
    if not len(anchor_sizes) or sizes.shape[1] != anchor_sizes.shape[1]:
        raise ValueError(f"anchor_sizes must have shape (a, {sizes.shape[1]}), a > 0, got {tuple(anchor_sizes.shape)}")
    return _shape_iou(sizes, anchor_sizes).amax(1)


@numpy_too
def fit_anchors(
    sizes: Real[Tensor, "n d"], num: int, *, restarts: int = 2, steps: int = 120, seed: int = 0
) -> Float[Tensor, "num d"]:
    """Fit anchor sizes to objects: those with the largest mean best IoU over the objects.

    How it works: k-means (from quantiles of the volume, then as k-means++; Lloyd's algorithm with the best IoU as
    nearness and medians as centres) provides the start. Gradient ascent on the mean best IoU itself, which k-means does
    not maximise, then refines it; the best of all steps is kept.

    Args:
        sizes: `(n, d)` extents of the objects in voxels, positive; at least one object.
        num: number of anchors.
        restarts: number of starts, the first from quantiles, the others random; the best result is kept.
        steps: number of ascent steps.
        seed: seed of the random starts.

    Returns:
        `(num, d)` voxels, by volume.

    Raises:
        ValueError: no objects, or an object without extent; names its row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import fit_anchors
        >>> sizes = np.array([[4.0, 4.0], [4.0, 4.0], [20.0, 10.0], [20.0, 10.0]])
        >>> fit_anchors(sizes, 2).round().tolist()
        [[4.0, 4.0], [20.0, 10.0]]
    """
    sizes = as_float(sizes).detach()
    if not len(sizes) or num < 1:
        raise ValueError(f"cannot fit {num} anchors to {len(sizes)} objects: both must be at least 1")
    check_extents("sizes", sizes)
    generator = torch.Generator().manual_seed(seed)
    some = sizes[torch.randperm(len(sizes), generator=generator)[:_MOST].to(sizes.device)].double()
    starts = [_quantiles(some, num), *(_spread_out(some, num, generator) for _ in range(restarts - 1))]
    _, anchors = max((_ascend(some, _k_means(some, start), steps) for start in starts), key=lambda fit: fit[0])
    return anchors[anchors.prod(1).argsort(stable=True)].to(sizes.dtype)


def _shape_iou(a: Tensor, b: Tensor) -> Tensor:
    intersection = torch.minimum(a[:, None], b).prod(-1)
    return intersection / (a.prod(-1)[:, None] + b.prod(-1) - intersection)


def _quantiles(sizes: Tensor, num: int) -> Tensor:
    """Medians of equal parts of the objects by volume; with fewer objects than parts, the nearest object."""
    by_volume = sizes[sizes.prod(1).argsort(stable=True)]
    parts = (
        by_volume.tensor_split(num) if len(sizes) >= num else by_volume[torch.arange(num) * len(sizes) // num].split(1)
    )
    return torch.stack([part.median(0).values for part in parts])


def _spread_out(sizes: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Sizes of objects far from each other: the start of k-means++."""
    chosen = [int(torch.randint(len(sizes), (1,), generator=generator))]
    for _ in range(num - 1):
        far = (1 - _shape_iou(sizes, sizes[chosen]).amax(1)).square().cpu() + 1e-12
        chosen.append(int(far.multinomial(1, generator=generator)))
    return sizes[chosen]


def _k_means(sizes: Tensor, anchors: Tensor, rounds: int = 20) -> Tensor:
    for _ in range(rounds):
        nearest = _shape_iou(sizes, anchors).argmax(1)
        for k in nearest.unique().tolist():
            anchors[k] = sizes[nearest == k].median(0).values
    return anchors


def _ascend(sizes: Tensor, anchors: Tensor, steps: int) -> tuple[float, Tensor]:
    """Adam with a rate that falls evenly; written out, because torch imports its compiler with its optimisers."""
    log_sizes = anchors.log().requires_grad_()
    momentum, square, rate = torch.zeros_like(anchors), torch.zeros_like(anchors), _RATE
    best, best_anchors = -1.0, anchors
    for step in range(1, steps + 1):
        mean = _shape_iou(sizes, log_sizes.exp()).amax(1).mean()
        if mean.item() > best:
            best, best_anchors = mean.item(), log_sizes.detach().exp()
        (gradient,) = torch.autograd.grad(-mean, log_sizes)
        momentum.lerp_(gradient, 1 - _DECAYS[0])
        square.mul_(_DECAYS[1]).addcmul_(gradient, gradient, value=1 - _DECAYS[1])
        spread = (square.sqrt() / (1 - _DECAYS[1] ** step) ** 0.5).add_(1e-8)
        with torch.no_grad():
            log_sizes.addcdiv_(momentum, spread, value=-rate / (1 - _DECAYS[0] ** step))
        rate *= 1 - (1 - _LAST) / (steps - (step - 1) * (1 - _LAST))
    return best, best_anchors
