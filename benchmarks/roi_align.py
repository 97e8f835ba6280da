"""RoIAlign against one made of `grid_sample`: `python benchmarks/roi_align.py`.

Prints medians of forward and backward on two threads, taken in turns in one run: `grid_sample` at every sample, then
averaged; Boxel's plain torch version, as used where numba or a CPU is missing; and Boxel.
"""

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import date

import numba
import torch
from torch import Tensor
from torch.nn import functional as F

from boxel.ops import arrays, roi_align

STRIDE = 4.0


def grid_sample_roi_align(features: Tensor, boxes: Tensor, output_size: Sequence[int], ratio: int = 2) -> Tensor:
    """For boxes of one image, channels first as `grid_sample` leaves them."""
    lower, upper = (boxes / STRIDE).unbind(1)
    places = []
    for axis, (bins, cells) in enumerate(zip(output_size, features.shape[2:], strict=True)):
        samples = (torch.arange(bins * ratio) + 0.5) / (bins * ratio)
        place = torch.lerp(lower[:, axis, None], upper[:, axis, None], samples)
        shape = [len(boxes), *(-1 if k == axis else 1 for k in range(len(output_size)))]
        places.append((place / cells * 2 - 1).reshape(shape))
    grid = torch.stack(torch.broadcast_tensors(*reversed(places)), -1)
    sampled = F.grid_sample(features, grid.flatten(0, 1)[None], padding_mode="border", align_corners=False)
    split = [size for bins in output_size for size in (bins, ratio)]
    sampled = sampled[0].reshape(features.shape[1], len(boxes), *split)
    return sampled.mean(tuple(range(3, sampled.ndim, 2))).movedim(1, 0)


def roi_boxes(shape: Sequence[int], count: int, sizes: tuple[float, float] | None) -> Tensor:
    """Boxes of extents within `sizes` voxels, or (None) between any two points of the image."""
    size = torch.tensor(shape) * STRIDE
    if sizes is None:
        return (torch.rand(count, 2, len(shape)) * size).sort(1).values
    extent = torch.empty(count, len(shape)).uniform_(*sizes)
    lower = torch.rand(count, len(shape)) * (size - extent)
    return torch.stack([lower, lower + extent], 1)


def seconds(works: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Medians; the versions take turns, so that a disturbance affects all of them."""
    times: list[list[float]] = [[] for _ in works]
    for run in range(runs + 1):
        for work, own in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if run:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def plainly(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run without compiled kernels."""

    def call(*args: object, **kwargs: object) -> Tensor:
        kept, arrays._compiled = arrays._compiled, lambda: None
        try:
            return work(*args, **kwargs)
        finally:
            arrays._compiled = kept

    return call


SMALL = (8.0, 60.0)
WORKS = [
    ("2D, any size", 256, (80, 80), 500, (7, 7), None, True, 0.30),
    ("2D", 256, (80, 80), 500, (7, 7), SMALL, True, 0.30),
    ("2D", 256, (80, 80), 128, (7, 7), SMALL, True, None),
    ("2D, masks", 256, (80, 80), 128, (14, 14), SMALL, True, None),
    ("2D", 256, (80, 80), 500, (7, 7), SMALL, False, None),
    ("3D, any size", 64, (32, 32, 32), 100, (3, 7, 7), None, True, 0.15),
    ("3D", 64, (32, 32, 32), 100, (3, 7, 7), SMALL, True, 0.15),
    ("3D", 64, (32, 32, 32), 128, (3, 7, 7), SMALL, True, None),
    ("3D, masks", 64, (32, 32, 32), 100, (5, 14, 14), SMALL, True, None),
    ("3D", 64, (32, 32, 32), 500, (3, 7, 7), SMALL, False, None),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="runs of each version, of which the median is printed")
    given = parser.parse_args()
    torch.set_num_threads(2)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {os.cpu_count()} CPUs")
    print(
        f"torch {torch.__version__}, numba {numba.__version__}; median of {given.runs} runs; stride {STRIDE:g}, float32"
    )
    print(f"boxes of {SMALL[0]:g} to {SMALL[1]:g} voxels if not of any size; sampling ratio 2\n")
    print("| features, boxes, bins | pass | grid_sample | plain torch | target | Boxel | ratio |\n" + "|---" * 7 + "|")
    for name, channels, shape, count, bins, sizes, train, target in WORKS:
        torch.manual_seed(0)
        features, boxes = torch.randn(1, channels, *shape), roi_boxes(shape, count, sizes)
        features.requires_grad_(train)
        images, options = torch.zeros(count, dtype=torch.long), {"output_size": bins, "stride": (STRIDE,) * len(shape)}
        gradient = torch.randn(count, channels, *bins)
        pools = [
            lambda features, boxes=boxes, bins=bins: grid_sample_roi_align(features, boxes, bins),
            plainly(
                lambda features, boxes=boxes, images=images, options=options: roi_align(
                    features, boxes, images, **options
                )
            ),
            lambda features, boxes=boxes, images=images, options=options: roi_align(features, boxes, images, **options),
        ]

        def work(pool: Callable[[Tensor], Tensor], features: Tensor = features, gradient: Tensor = gradient) -> Tensor:
            pooled = pool(features)
            return torch.autograd.grad(pooled, features, gradient)[0] if features.requires_grad else pooled

        results = [work(pool) for pool in pools]
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], rtol=1e-3, atol=1e-3)
        other, plain, own = seconds([lambda pool=pool, work=work: work(pool) for pool in pools], given.runs)
        goal = "-" if target is None else f"{target:.2f} s"
        what = f"{name}: {channels} x {'x'.join(map(str, shape))}, {count}, {'x'.join(map(str, bins))}"
        step = "forward, backward" if train else "forward"
        print(
            f"| {what} | {step} | {other:.3f} s | {plain:.3f} s | {goal} | **{own:.4f} s** | {other / own:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
