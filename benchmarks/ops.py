"""Box operators against plain numpy versions of the published algorithms: `python benchmarks/ops.py`.

Prints medians on two threads, the growth from N to 10 N boxes, the peak memory relative to the input, and the time of
the first call of each operator without and with compiled code on disk.
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
from ops_reference import (
    WBC,
    chest_ct,
    crowd,
    numpy_clustering,
    numpy_fusion,
    numpy_match_atss,
    numpy_match_iou,
    numpy_merge_slices,
    numpy_nms,
    numpy_soft_nms,
    numpy_weighted_nms,
    stack,
)

from boxel.ops import (
    best_iou,
    fit_anchors,
    match,
    match_atss,
    match_iou,
    merge_slices,
    nms,
    soft_nms,
    weighted_box_clustering,
    weighted_box_fusion,
    weighted_nms,
)


def seconds(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes(work: Callable[[], object]) -> int:
    """By how many bytes the process grows at most; Linux."""

    def status(key: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) * 1024

    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory freed earlier would hide memory taken now
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def growth_and_memory(runs: int) -> None:
    """From 10,000 to 100,000 boxes, 20 per object; memory also where few boxes overlap."""
    print("\n| 100,000 boxes | time relative to 10,000 | peak memory / input, 5,000 objects | 31,000 | 90,000 |")
    print("|---|---|---|---|---|")
    works: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
        "weighted box clustering 3D": lambda some: weighted_box_clustering(**some, **WBC),
        "NMS 3D": lambda some: nms(some["boxes"], some["scores"], 0.3),
        "soft NMS 3D": lambda some: soft_nms(some["boxes"], some["scores"], min_score=0.05),
        "weighted NMS 3D": lambda some: weighted_nms(some["boxes"], some["scores"], iou_threshold=0.3),
        "weighted box fusion 3D": lambda some: weighted_box_fusion(some["boxes"], some["scores"], expected_views=20),
        "merging of slices": lambda some: merge_slices(**some, iou_threshold=0.1),
    }
    for name, work in works.items():
        merges = name == "merging of slices"
        took, grown = {}, []
        for count, objects in ((10_000, 500), (100_000, 5_000), (100_000, 31_000), (100_000, 90_000)):
            given = stack(count) if merges else crowd(count, objects, 3)
            if not merges and "clustering" not in name:
                given = {key: given[key] for key in ("boxes", "scores")}
            some = {key: torch.from_numpy(value) for key, value in given.items()}
            if objects <= 5_000:
                took[count] = seconds(lambda some=some, work=work: work(some), runs)
            if count == 100_000 and (objects == 5_000 or not merges):
                peak = max(peak_bytes(lambda some=some, work=work: work(some)) for _ in range(5))
                grown.append(f"{peak / sum(value.nbytes for value in some.values()):.1f}")
        print(f"| {name} | x {took[100_000] / took[10_000]:.1f} | {' | '.join(grown + ['-'] * (3 - len(grown)))} |")
    levels, objects = chest_ct()
    anchors = torch.cat(levels)
    for name, matching in {
        "ATSS": lambda: match_atss(levels, objects, anchors_per_cell=9),
        "IoU matching": lambda: match_iou(anchors, objects, positive=0.5, negative=0.1),
    }.items():
        peak = max(peak_bytes(matching) for _ in range(5)) / (anchors.nbytes + objects.nbytes)
        print(f"| {name}, 673,920 anchors x 10 objects | - | {peak:.1f} | - | - |")


def threads_table(runs: int) -> None:
    """One thread against two, in turns; the fastest of many runs, as other jobs may use the machine."""
    print("\n| fastest of some runs | one thread | two threads |\n|---|---|---|")
    levels, objects = chest_ct()
    anchors, level_sizes = torch.cat(levels), [len(level) for level in levels]
    images = [objects] * 4
    works: dict[str, Callable[[], object]] = {
        "IoU matching, 673,920 anchors x 10 objects, 4 images": lambda: match(
            anchors, images, rule="iou", positive=0.5, negative=0.1
        ),
        "ATSS, same": lambda: match(anchors, images, rule="atss", level_sizes=level_sizes, anchors_per_cell=9),
    }
    for count in (2_000, 10_000, 100_000):
        some = {key: torch.from_numpy(value) for key, value in crowd(count, count // 20, 3).items()}
        pair, labels = (some["boxes"], some["scores"]), torch.from_numpy(np.random.default_rng(2).integers(0, 4, count))
        slices = torch.from_numpy(stack(count)["slices"])
        works |= {
            f"weighted box clustering 3D, {count:,} boxes": lambda some=some: weighted_box_clustering(**some, **WBC),
            f"the same of 4 labels, {count:,}": lambda some=some, labels=labels: weighted_box_clustering(
                **some, **WBC, labels=labels
            ),
            f"NMS 3D of 4 labels, {count:,}": lambda pair=pair, labels=labels: nms(*pair, 0.3, labels=labels),
            f"soft NMS 3D of 4 labels, {count:,}": lambda pair=pair, labels=labels: soft_nms(*pair, labels=labels),
            f"weighted box fusion 3D of 4 labels, {count:,}": lambda pair=pair, labels=labels: weighted_box_fusion(
                *pair, labels=labels, expected_views=20
            ),
            f"merging 300 slices of 4 labels, {count:,}": lambda pair=pair, labels=labels, slices=slices: merge_slices(
                *pair, slices, labels=labels, iou_threshold=0.1
            ),
        }
    for name, work in works.items():
        best = {1: float("inf"), 2: float("inf")}
        for _ in range(4 * runs):
            for threads in best:
                torch.set_num_threads(threads)
                best[threads] = min(best[threads], seconds(work, 1))
        print(f"| {name} | {best[1] * 1e3:.2f} ms | {best[2] * 1e3:.2f} ms, x {best[1] / best[2]:.2f} |", flush=True)


FIRST_CALLS = """
import json, time, torch, boxel.ops.kernels
from boxel.ops import match_atss, match_iou, merge_slices, nms, soft_nms, weighted_box_clustering, weighted_box_fusion
boxes, scores = torch.rand(9, 2, 3).cumsum(1), torch.rand(9)
calls = {
    "NMS": lambda: nms(boxes, scores, 0.3),
    "weighted box clustering, after NMS": lambda: weighted_box_clustering(
        boxes, scores, iou_threshold=0.1, expected_views=2, view_ids=torch.arange(9)),
    "ATSS": lambda: match_atss([boxes], boxes),
    "IoU matching": lambda: match_iou(boxes, boxes, positive=0.5, negative=0.1),
    "merging of slices": lambda: merge_slices(boxes, scores, torch.arange(9), iou_threshold=0.1),
    "soft NMS": lambda: soft_nms(boxes, scores),
    "weighted box fusion": lambda: weighted_box_fusion(boxes, scores, expected_views=2),
}
took = {}
for name, call in calls.items():
    start = time.perf_counter()
    call()
    took[name] = time.perf_counter() - start
print(json.dumps(took))
"""


def first_calls(cache: str) -> dict[str, float]:
    """Seconds of the first call of each operator in a new process, without imports."""
    variables = os.environ | {"NUMBA_CACHE_DIR": cache}
    result = subprocess.run([sys.executable, "-c", FIRST_CALLS], env=variables, check=True, stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of Boxel, of which the median is printed")
    parser.add_argument("--no-reference", action="store_true", help="leave out the slow numpy versions")
    given = parser.parse_args()
    torch.set_num_threads(2)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    made = f"{date.today()}, commit {commit.stdout.strip() or 'none'}"
    print(f"{made}, {platform.machine()}, {os.cpu_count()} CPUs")
    print(f"torch {torch.__version__}, numpy {np.__version__}; median of {given.runs} runs, reference once\n")
    print("| operation | numpy | target | Boxel |\n|---|---|---|---|")

    def row(name: str, target: float | None, work: Callable[[], object], reference: Callable[[], object]) -> float:
        work()
        took = seconds(work, given.runs)
        plain = "-" if given.no_reference else f"{seconds(reference, 1):.3f} s"
        goal = "-" if target is None else f"{target:.3f} s"
        print(f"| {name} | {plain} | {goal} | **{took:.4f} s** |", flush=True)
        return took

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

    some = stack(60_000)
    row(
        "merging 300 slices of 200 boxes",
        None,
        lambda: merge_slices(*map(torch.from_numpy, some.values()), iou_threshold=0.1),
        lambda: numpy_merge_slices(**some),
    )

    some = crowd(20_000, 1_000, 3)
    boxes, scores = torch.from_numpy(some["boxes"]), torch.from_numpy(some["scores"])
    row(
        "soft NMS 3D, 20,000 boxes",
        None,
        lambda: soft_nms(boxes, scores, min_score=0.05),
        lambda: numpy_soft_nms(some["boxes"], some["scores"], 0.05),
    )
    row(
        "weighted box fusion 3D, same",
        None,
        lambda: weighted_box_fusion(boxes, scores, expected_views=20),
        lambda: numpy_fusion(some["boxes"], some["scores"], 0.55),
    )
    row(
        "weighted NMS 3D, same",
        None,
        lambda: weighted_nms(boxes, scores, iou_threshold=0.3),
        lambda: numpy_weighted_nms(some["boxes"], some["scores"], 0.3),
    )

    growth_and_memory(given.runs)
    threads_table(given.runs)
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
