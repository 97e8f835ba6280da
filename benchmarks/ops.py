"""Box operators against plain numpy versions of the published algorithms: `python benchmarks/ops.py`.

Prints medians on two threads, the growth from N to 10 N boxes, the peak of memory over the input, and what the first
call of each costs where nothing has been compiled before and where the compiled code lies on disk.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch

from boxel.ops import (
    anchor_grid,
    best_iou,
    fit_anchors,
    match_atss,
    match_iou,
    merge_slices,
    nms,
    octave_sizes,
    weighted_box_clustering,
)

WBC = {"iou_threshold": 0.1, "expected_views": 20}


def crowd(count: int, clusters: int, ndim: int) -> dict[str, np.ndarray]:
    """`count` noisy boxes from 20 views around `clusters` objects of 6 to 18 voxels, evenly spread."""
    rng = np.random.default_rng(0)
    side = 18 * clusters ** (1 / ndim)
    of = rng.integers(0, clusters, count)
    centre = rng.uniform(0, side, (clusters, ndim))[of] + rng.normal(0, 1, (count, ndim))
    extent = rng.uniform(6, 18, (clusters, ndim))[of] * np.exp(rng.normal(0, 0.1, (count, ndim)))
    boxes = np.stack([centre - extent / 2, centre + extent / 2], 1).astype(np.float32)
    return {
        "boxes": boxes,
        "scores": rng.random(count, dtype=np.float32),
        "view_ids": rng.integers(0, 20, count),
        "weights": rng.uniform(0.4, 1, count).astype(np.float32),
        "tiles_covering": rng.uniform(1, 3, count).astype(np.float32),
    }


def iou_with(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    shared = np.clip(np.minimum(boxes[:, 1], box[1]) - np.maximum(boxes[:, 0], box[0]), 0, None).prod(1)
    return shared / ((boxes[:, 1] - boxes[:, 0]).prod(1) + (box[1] - box[0]).prod() - shared)


def numpy_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        kept.append(int(left[0]))
        left = left[1:][iou_with(boxes[left[1:]], boxes[left[0]]) <= iou_threshold]
    return kept


def numpy_clustering(
    boxes: np.ndarray,
    scores: np.ndarray,
    view_ids: np.ndarray,
    weights: np.ndarray,
    tiles_covering: np.ndarray,
) -> list[float]:
    left, found = np.argsort(-scores, kind="stable"), []
    while len(left):
        overlap = iou_with(boxes[left], boxes[left[0]])
        joins = overlap > WBC["iou_threshold"]
        rows, overlap, left = left[joins], overlap[joins], left[~joins]
        _, first = np.unique(view_ids[rows], return_index=True)
        rows, overlap = rows[first], overlap[first]
        weight = overlap * (boxes[rows, 1] - boxes[rows, 0]).prod(1) * weights[rows]
        missing = max(0, WBC["expected_views"] * tiles_covering[rows].mean() - len(rows))
        found.append(float((scores[rows] * weight).sum() / (weight.sum() + missing * weight.mean())))
    return found


def chest_ct() -> tuple[list[torch.Tensor], torch.Tensor]:
    """The 673,920 anchors of a 64 x 128 x 128 patch, and 10 objects."""
    levels = []
    for k in (1, 2, 4, 8):
        sizes = octave_sizes(8.0 * k, through_plane=2.0 * k)
        levels.append(anchor_grid((64 // k, 32 // k, 32 // k), (k, 4 * k, 4 * k), sizes))
    rng = np.random.default_rng(0)
    lower = rng.uniform(0, 1, (10, 3)) * (50, 100, 100)
    boxes = np.stack([lower, lower + rng.uniform(1, 2, (10, 3)) * (6, 12, 12)], 1)
    return levels, torch.from_numpy(boxes).float()


def numpy_iou_matrix(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return np.stack([iou_with(anchors, box) for box in boxes], 1)


def numpy_match_iou(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    iou = numpy_iou_matrix(anchors, boxes)
    best = iou.max(1)
    matched = np.where(best >= 0.5, iou.argmax(1), np.where(best < 0.1, -1, -2))
    matched[iou.argmax(0)] = np.arange(len(boxes))
    return matched


def numpy_match_atss(levels: list[np.ndarray], boxes: np.ndarray, per_cell: int = 9, cells: int = 4) -> np.ndarray:
    iou, first, rows = numpy_iou_matrix(np.concatenate(levels), boxes), 0, []
    for anchors in levels:
        distance = np.square(anchors.mean(1)[:, None] - boxes.mean(1)).sum(-1)
        rows.append(first + np.argpartition(distance, cells * per_cell, axis=0)[: cells * per_cell])
        first += len(anchors)
    candidates = np.take_along_axis(iou, np.concatenate(rows), 0)
    positive = candidates >= candidates.mean(0) + candidates.std(0, ddof=1)
    kept = np.zeros_like(iou)
    np.put_along_axis(kept, np.concatenate(rows), np.where(positive, candidates, 0), 0)
    return np.where(kept.max(1) > 0, kept.argmax(1), -1)


def stack(count: int) -> dict[str, np.ndarray]:
    """Boxes of 200 slices, 20 around each of their objects."""
    some = crowd(count, count // 200, 2)
    slices = np.random.default_rng(1).integers(0, 200, count)
    return {"boxes": some["boxes"], "scores": some["scores"], "slices": slices}


def numpy_merge_slices(boxes: np.ndarray, scores: np.ndarray, slices: np.ndarray) -> int:
    left, found = np.argsort(-scores, kind="stable"), 0
    while len(left):
        joins = iou_with(boxes[left], boxes[left[0]]) > 0.1
        present, first = np.unique(slices[left[joins]]), slices[left[0]]
        run = np.split(present, np.flatnonzero(np.diff(present) > 1) + 1)
        run = next(part for part in run if first in part)
        left = left[~(joins & (run[0] <= slices[left]) & (slices[left] <= run[-1]))]
        found += 1
    return found


def seconds(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes(work: Callable[[], object]) -> int:
    """How far the process grows beyond what it held before; Linux."""

    def status(key: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) * 1024

    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed earlier would hide what is taken now
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


FIRST_CALLS = """
import json, time, torch, boxel.ops.kernels
from boxel.ops import match_atss, match_iou, merge_slices, nms, weighted_box_clustering
boxes, scores = torch.rand(9, 2, 3).cumsum(1), torch.rand(9)
calls = {
    "NMS": lambda: nms(boxes, scores, 0.3),
    "weighted box clustering, after NMS": lambda: weighted_box_clustering(
        boxes, scores, iou_threshold=0.1, expected_views=2, view_ids=torch.arange(9)),
    "ATSS": lambda: match_atss([boxes], boxes),
    "IoU matching": lambda: match_iou(boxes, boxes, positive=0.5, negative=0.1),
    "merging of slices": lambda: merge_slices(boxes, scores, torch.arange(9), iou_threshold=0.1),
}
took = {}
for name, call in calls.items():
    start = time.perf_counter()
    call()
    took[name] = time.perf_counter() - start
print(json.dumps(took))
"""


def first_calls(cache: str) -> dict[str, float]:
    """Seconds of the first call of each operator in a new process, imports apart."""
    variables = os.environ | {"NUMBA_CACHE_DIR": cache}
    result = subprocess.run([sys.executable, "-c", FIRST_CALLS], env=variables, check=True, stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of Boxel, the median counts")
    parser.add_argument("--no-reference", action="store_true", help="leave the slow numpy versions out")
    given = parser.parse_args()
    torch.set_num_threads(2)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    made = f"{date.today()}, commit {commit.stdout.strip() or 'none'}"
    print(f"{made}, {platform.machine()}, {os.cpu_count()} CPUs")
    print(f"torch {torch.__version__}, numpy {np.__version__}; median of {given.runs} runs, reference once\n")
    print("| work | numpy | to reach | Boxel |\n|---|---|---|---|")

    def row(name: str, target: float | None, work: Callable[[], object], reference: Callable[[], object]) -> float:
        work()
        took = seconds(work, given.runs)
        plain = "-" if given.no_reference else f"{seconds(reference, 1):.3f} s"
        goal = "-" if target is None else f"{target:.3f} s"
        print(f"| {name} | {plain} | {goal} | **{took:.4f} s** |", flush=True)
        return took

    growth = {}
    for count, clusters, target in ((20_000, 1_000, 0.015), (100_000, 5_000, 0.10), (100_000, 31_000, 0.20)):
        some = crowd(count, clusters, 3)
        tensors = {name: torch.from_numpy(value) for name, value in some.items()}
        row(
            f"weighted box clustering 3D, {count:,} boxes of {clusters:,} objects",
            target,
            lambda tensors=tensors: weighted_box_clustering(**tensors, **WBC),
            lambda some=some: numpy_clustering(**some),
        )
    for ndim, clusters in ((3, 6_000), (2, 3_700)):
        some = crowd(50_000, clusters, ndim)
        boxes, scores = torch.from_numpy(some["boxes"]), torch.from_numpy(some["scores"])
        row(
            f"NMS {ndim}D, 50,000 boxes, {len(nms(boxes, scores, 0.3)):,} kept",
            0.08,
            lambda boxes=boxes, scores=scores: nms(boxes, scores, 0.3),
            lambda some=some: numpy_nms(some["boxes"], some["scores"], 0.3),
        )
    levels, objects = chest_ct()
    anchors, arrays = torch.cat(levels), [level.numpy() for level in levels]
    row(
        "ATSS, 673,920 anchors x 10 objects",
        0.01,
        lambda: match_atss(levels, objects, anchors_per_cell=9),
        lambda: numpy_match_atss(arrays, objects.numpy()),
    )
    row(
        "IoU matching, same",
        0.01,
        lambda: match_iou(anchors, objects, positive=0.5, negative=0.1),
        lambda: numpy_match_iou(anchors.numpy(), objects.numpy()),
    )

    some = stack(20_000)
    row(
        "merging 20,000 boxes of 200 slices",
        None,
        lambda: merge_slices(*map(torch.from_numpy, some.values()), iou_threshold=0.1),
        lambda: numpy_merge_slices(**some),
    )

    print("\n| 10,000 to 100,000 boxes of 20 | time grows | peak memory / input |\n|---|---|---|")
    works = {
        "weighted box clustering 3D": (
            lambda some: weighted_box_clustering(**some, **WBC),
            lambda count: crowd(count, count // 20, 3),
        ),
        "NMS 3D": (lambda some: nms(some["boxes"], some["scores"], 0.3), lambda count: crowd(count, count // 20, 3)),
        "merging of slices": (lambda some: merge_slices(**some, iou_threshold=0.1), stack),
    }
    for name, (work, make) in works.items():
        for count in (10_000, 100_000):
            some = {key: torch.from_numpy(value) for key, value in make(count).items()}
            growth[count] = seconds(lambda some=some, work=work: work(some), given.runs)
        used = {key: some[key] for key in ("boxes", "scores")} if name.startswith("NMS") else some
        peak = peak_bytes(lambda some=some, work=work: work(some)) / sum(value.nbytes for value in used.values())
        print(f"| {name} | x {growth[100_000] / growth[10_000]:.1f} | {peak:.1f} |")
    size = anchors.nbytes + objects.nbytes
    for name, match in {
        "ATSS": lambda: match_atss(levels, objects, anchors_per_cell=9),
        "IoU matching": lambda: match_iou(anchors, objects, positive=0.5, negative=0.1),
    }.items():
        print(f"| {name}, 673,920 anchors x 10 objects | | {peak_bytes(match) / size:.1f} |")

    print("\n| first call in a process | nothing compiled before | compiled code on disk |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        fresh, kept = first_calls(folder), first_calls(folder)
    for name in fresh:
        print(f"| {name} | {fresh[name]:.1f} s | {kept[name]:.2f} s |")

    print("\n| anchors fitted to 3,000 objects | mean best IoU, k-means | Boxel |\n|---|---|---|")
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(0)
    for ndim, num in ((2, 9), (3, 9), (3, 27)):
        sizes = np.exp(rng.normal(2.5, 0.6, (3000, 1)) + rng.normal(0, 0.25, (3000, ndim)))
        starts = [np.abs(kmeans2(sizes, num, minit="++", rng=seed)[0]) for seed in range(5)]
        k_means = max(best_iou(sizes, start).mean() for start in starts)
        fitted = best_iou(sizes, fit_anchors(sizes, num)).mean()
        print(f"| {num} anchors, {ndim}D | {k_means:.3f} | {fitted:.3f} |")


if __name__ == "__main__":
    main()
