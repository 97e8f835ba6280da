"""Seconds per optimisation step of every model, and where they go: `python benchmarks/training.py`.

    python benchmarks/training.py --size 2d --precision bf16 --model retina_net retina_unet

The recipes are `mdt_toy` (320 x 320, batch 2) and `mdt_lidc_3d` (64 x 128 x 128, batch 1), on toy images that are
drawn, prepared, sampled and augmented as a training does. The models take turns, so that what disturbs the machine
disturbs all of them; medians. The ceilings are the best convolution and matrix product found in the same run, forward
and backward: 256 channels in 2D, 64 in 3D, 3 wide; 2048 rows and columns.
"""

import argparse
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from boxel.datasets.formats import open_dataset
from boxel.datasets.toy import make_toy
from boxel.loading.augment import augment
from boxel.loading.loader import batches, to_device
from boxel.loading.sampler import PatchSampler
from boxel.models import ModelConfig
from boxel.nn.nd import CONV, channels_last
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store
from boxel.recipes import get_recipe
from boxel.training.memory import keep_freed_memory
from boxel.training.optimise import build_optimizer
from boxel.types import Batch

SIZES = {"2d": ("mdt_toy", 2, 320, 2), "3d": ("mdt_lidc_3d", 3, 128, 1)}  # recipe, axes, voxels per axis, batch
PARTS = ("data", "forward", "loss", "backward", "optimiser")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Training:
    """One model, its optimiser and its batches."""

    def __init__(self, store: Store, recipe: str, name: str, batch_size: int, precision: str, device: str) -> None:
        self.experiment = get_recipe(recipe, name)
        self.task, self.precision, self.device = store.task, precision, torch.device(device)
        torch.manual_seed(0)
        self.model = channels_last(self.experiment.model.build(self.task).train(), self.task.ndim).to(self.device)
        self.optimizer = build_optimizer(self.model, self.experiment.train)
        augmentation = self.experiment.train.augment
        sampler = PatchSampler(
            store, store.ids, self.task, self.experiment.train.sampler, seed=0, margin=augmentation.margin
        )
        self.batches = batches(sampler, batch_size, 0, 10_000)

    def step(self) -> list[float]:
        """Seconds of each part."""
        clock = [self._now()]
        batch = self.next_batch()
        clock.append(self._now())
        with self.autocast():
            outputs = self.model.infer(batch.images, segmentation=True)
            clock.append(self._now())
            loss = torch.stack(list(self.model.loss(outputs, batch).values())).sum()
        clock.append(self._now())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clock.append(self._now())
        self.optimizer.step()
        clock.append(self._now())
        return [after - before for before, after in pairwise(clock)]

    def next_batch(self) -> Batch:
        batch = to_device(next(self.batches), self.device)
        return augment(batch, self.experiment.train.augment, self.task.patch_size, torch.Generator().manual_seed(0))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def flops(self) -> int:
        with FlopCounterMode(display=False) as counter:
            self.step()
        return counter.get_total_flops()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def flops_per_second(work: Callable[[], torch.Tensor], runs: int = 10) -> float:
    """Of the best of some forward and backward passes."""
    best = float("inf")
    with FlopCounterMode(display=False) as counter:
        work().sum().backward()
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        result.backward(torch.ones_like(result))
        if result.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return counter.get_total_flops() / best


def ceilings(ndim: int, precision: str, device: str) -> tuple[float, float]:
    """FLOP/s of a convolution and of a matrix product."""
    place = {"device": device, "dtype": DTYPES[precision]}
    channels, shape = {2: (256, (2, 256, 80, 80)), 3: (64, (1, 64, 64, 32, 32))}[ndim]
    conv = channels_last(CONV[ndim](channels, channels, 3, padding=1).to(**place), ndim)
    images = torch.randn(shape, **place)
    images = images.movedim(1, -1).contiguous().movedim(-1, 1).requires_grad_()
    square = torch.randn(2048, 2048, **place, requires_grad=True)
    return flops_per_second(lambda: conv(images)), flops_per_second(lambda: square @ square)


def table(store: Store, size: str, precision: str, device: str, models: list[str], runs: int) -> None:
    recipe, ndim, _, batch_size = SIZES[size]
    conv, matmul = ceilings(ndim, precision, device)
    trainings = {name: Training(store, recipe, name, batch_size, precision, device) for name in models}
    flops = {name: training.flops() for name, training in trainings.items()}
    steps: dict[str, list[list[float]]] = {name: [] for name in models}
    for _ in range(runs):
        for name, training in trainings.items():
            steps[name].append(training.step())
    shape = " x ".join(map(str, (batch_size, *store.task.patch_size)))
    print(f"\n{recipe}, {shape}, {precision}, {device}; ceilings: convolution {conv / 1e9:,.0f} GFLOP/s,")
    print(f"matrix product {matmul / 1e9:,.0f} GFLOP/s\n")
    print(f"| model | s per step | to Retina Net | {' | '.join(PARTS)} | TFLOP | GFLOP/s | of the convolution |")
    print("|---" * (len(PARTS) + 6) + "|")
    reference = [sum(step) for step in steps["retina_net"]] if "retina_net" in steps else None
    for name, measured in steps.items():
        totals = [sum(step) for step in measured]
        took = statistics.median(totals)
        ratio = f"{statistics.median(a / b for a, b in zip(totals, reference, strict=True)):.2f}" if reference else "-"
        shares = [statistics.median(part) / took for part in zip(*measured, strict=True)]
        rate = flops[name] / took
        cells = [name, f"**{took:.3f}**", ratio, *(f"{share:.0%}" for share in shares)]
        print(f"| {' | '.join(cells)} | {flops[name] / 1e12:.2f} | {rate / 1e9:,.0f} | {rate / conv:.0%} |", flush=True)
    if "retina_unet" in trainings and device == "cpu":
        way_down(trainings["retina_unet"], runs)


def way_down(training: Training, runs: int) -> None:
    """The U-FPN with its way down to the segmentation composed, and as it is written in the paper."""
    model = training.model
    with torch.no_grad(), training.autocast():
        features = [level.detach() for level in model.encoder(training.next_batch().images)]
    features = [level.requires_grad_() for level in features]

    def composed() -> torch.Tensor:
        return model.neck(features).finest.convolve(model.segmenter.conv)

    def plain() -> torch.Tensor:
        return model.segmenter.conv(model.neck(features).finest.compute())

    def seconds(forward: Callable[[], torch.Tensor]) -> float:
        start = time.perf_counter()
        with training.autocast():
            logits = forward()
        logits.backward(torch.ones_like(logits))
        return time.perf_counter() - start

    for work in (composed, plain):
        seconds(work)
    pairs = [(seconds(composed), seconds(plain)) for _ in range(runs)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"\nU-FPN to the segmentation: {ours:.3f} s composed, {theirs:.3f} s plain, x {ratio:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--precision", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--model", nargs="+", choices=list(ModelConfig.registry), default=list(ModelConfig.registry))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU")
    parser.add_argument("--runs", type=int, default=5, help="steps of each model, after one for warming up")
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    processor = platform.machine() if given.device == "cpu" else torch.cuda.get_device_name()
    threads = f"{given.threads} threads, " if given.device == "cpu" else ""
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {processor}, {threads}torch {torch.__version__}")
    for size in given.size:
        recipe, ndim, voxels, _ = SIZES[size]
        plan = get_recipe(recipe).plan.model_copy(update={"spacing": None})
        with tempfile.TemporaryDirectory() as folder:
            toy = make_toy(Path(folder) / "toy", num_train=6, num_val=1, num_test=1, ndim=ndim, size=voxels)
            store = prepare(open_dataset(toy), Path(folder) / "store", plan, workers=0)
            for precision in given.precision:
                table(store, size, precision, given.device, given.model, given.runs)


if __name__ == "__main__":
    main()
