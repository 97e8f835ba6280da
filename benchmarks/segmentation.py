"""What a segmented slice of 320 x 320 costs in each row of L-SNet's table 1: `python benchmarks/segmentation.py`.

Random weights, one region per slice. Rounds take turns, so that all rows share the noise of the machine; medians, and
the median of the ratio to the network of the second stage alone in the same round.
"""

import argparse
import platform
import statistics
import subprocess
import time
from datetime import date

import torch

from boxel.models import LSNet, UNet, UNetConfig
from boxel.models.base import Model
from boxel.nn.nd import channels_last
from boxel.recipes import get_recipe

ROWS = {
    "unet": "unet", "attention_unet": "unet", "coarse_to_fine_unet": "unet", "lsnet_unet": "unet",
    "fcn": "fcn", "coarse_to_fine_fcn": "fcn", "lsnet_fcn": "fcn",
}  # fmt: skip
SIZE = 320


def build(recipe: str) -> Model:
    config = get_recipe(recipe).model
    torch.manual_seed(0)
    kind = UNet if isinstance(config, UNetConfig) else LSNet
    return channels_last(kind(2, 1, 1, config=config).eval(), 2)


@torch.inference_mode()
def seconds(model: Model, image: torch.Tensor, box: torch.Tensor) -> float:
    start = time.perf_counter()
    outputs = model.infer(image)
    if isinstance(model, LSNet):
        model.first.locate(outputs.first, image.shape[2:])
        model.segment_boxes(image, [box])
    else:
        model.segment(outputs)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {given.threads} threads\n")
    image = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[[120.0, 140.0], [180.0, 230.0]]])
    models = {recipe: build(recipe) for recipe in ROWS}
    rounds = [{row: seconds(model, image, box) for row, model in models.items()} for _ in range(given.rounds + 1)][1:]
    print(
        "| row | million weights | s per slice | to its second stage alone | to coarse-to-fine |\n|---|---|---|---|---|"
    )
    for row, alone in ROWS.items():
        weights = sum(parameter.numel() for parameter in models[row].parameters()) / 1e6
        own = statistics.median(one[row] for one in rounds)
        ratios = (
            statistics.median(one[row] / one[other] for one in rounds) for other in (alone, f"coarse_to_fine_{alone}")
        )
        print(f"| {row} | {weights:.2f} | {own:.3f} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    main()
