"""What the detectors of boxes cost on an image of 416 x 416: `python benchmarks/boxes2d.py`.

Full widths, random weights, a batch of one: seconds of an optimisation step and of an image, to the multiply-adds that
they need and to the best convolution of the same run (`benchmarks/training.py`). Models take turns, so that what
disturbs the machine disturbs all of them; medians, and the median ratio of the rounds to Retina Net.

    python benchmarks/boxes2d.py --memory

The peak memory of predicting one image of 1024 x 1024, each model in a process of its own.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from training import Training, ceilings

from boxel.datasets.formats import open_dataset
from boxel.datasets.toy import make_toy
from boxel.inference.raw import predict_raw
from boxel.nn.nd import channels_last
from boxel.preparation.prepare import prepare
from boxel.recipes import get_recipe
from boxel.training.memory import keep_freed_memory

MODELS = ("retina_net", "yolov4", "faster_rcnn")
SIZE, LARGE = 416, 1024
REFERENCE = "retina_net"


def training_of(name: str, folder: Path, size: int) -> Training:
    """The recipe of a model on a few toy images, with the levels that it has by default on large objects."""
    plan = get_recipe(name).plan.override(["ndim=2", f"patch_size=[{size},{size}]", "spacing=null"])
    if name != "faster_rcnn":  # which has its own levels, 2 to 6
        plan = plan.override(["strides=[[2],[2],[2],[2],[2]]", "levels=[3,4,5]"])
    store = prepare(open_dataset(folder), folder.parent / f"{name}_{size}", plan, workers=0)
    return Training(store, name, name, 1, "fp32", "cpu")


def toy(folder: Path, size: int) -> Path:
    return make_toy(folder / "toy", num_train=6, num_val=1, num_test=1, size=size)


def speed(rounds: int) -> None:
    """Print the table of steps and images."""
    conv, _ = ceilings(2, "fp32", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        data = toy(Path(folder), SIZE)
        trainings = {name: training_of(name, data, SIZE) for name in MODELS}
        step_flops = {name: training.flops() for name, training in trainings.items()}
        image_flops: dict[str, int] = {}
        steps: dict[str, list[float]] = {name: [] for name in MODELS}
        images: dict[str, list[float]] = {name: [] for name in MODELS}
        for name, training in trainings.items():
            with FlopCounterMode(display=False) as counter:
                image(training)
            image_flops[name] = counter.get_total_flops()
        for _ in range(rounds):
            for name, training in trainings.items():
                training.model.train()
                steps[name].append(sum(training.step()))
                images[name].append(image(training))
    print(f"ceiling: convolution {conv / 1e9:,.0f} GFLOP/s\n")
    print("| what | model | s | multiply-adds, 10^9 | of the convolution | time per multiply-add to Retina Net |")
    print("|---|---|---|---|---|---|")
    for what, took, flops in (("step", steps, step_flops), ("image", images, image_flops)):
        for name in MODELS:
            median = statistics.median(took[name])
            cost = [a / flops[name] / (b / flops[REFERENCE]) for a, b in zip(took[name], took[REFERENCE], strict=True)]
            print(
                f"| {what} | {name} | {median:.3f} | {flops[name] / 2e9:.1f} | {flops[name] / median / conv:.0%} | "
                f"{statistics.median(cost):.2f} |"
            )


@torch.no_grad()
def image(training: Training) -> float:
    """Seconds of a forward pass and its boxes."""
    training.model.eval()
    pixels = torch.zeros(1, len(training.task.channels), SIZE, SIZE)
    start = time.perf_counter()
    training.model.detect(training.model.infer(pixels))
    return time.perf_counter() - start


def memory(name: str) -> None:
    """Print the peak memory of this process after one image of 1024 x 1024."""
    with tempfile.TemporaryDirectory() as folder:
        training = training_of(name, toy(Path(folder), LARGE), LARGE)  # the whole image is one tile
        model = channels_last(training.model.eval(), 2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pixels = np.random.default_rng(0).standard_normal((1, LARGE, LARGE), dtype=np.float32)
        config = training.experiment.predict.model_copy(update={"views": "identity"})
        with torch.inference_mode():
            predict_raw([model], pixels, 0.0, training.task, config, torch.device("cpu"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"| {name} | {peak / 2**20:.2f} | {before / 2**20:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", nargs="?", const="all", choices=["all", *MODELS])
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    if given.memory in MODELS:
        memory(given.memory)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip()}, {platform.machine()}, {given.threads} threads\n")
    if not given.memory:
        speed(given.rounds)
        return
    print("| model | peak GiB | before the image |\n|---|---|---|", flush=True)
    for name in MODELS:
        subprocess.run([sys.executable, __file__, "--memory", name, "--threads", str(given.threads)], check=True)


if __name__ == "__main__":
    main()
