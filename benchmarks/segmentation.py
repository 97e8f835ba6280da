"""What a segmented slice of 320 x 320 costs in each row of L-SNet's table 1: `python benchmarks/segmentation.py`.

Random weights, one region per slice. Rounds take turns, so that all rows share the noise of the machine; medians, and
the median of the ratio to the network of the second stage alone in the same round.

    python benchmarks/segmentation.py --memory

The peak memory of predicting a volume of 300 x 512 x 512 (int16, a file), as `boxel predict` does, with and without
--segmentation, of a slice-wise L-SNet and of a Retina U-Net on volumes. Random weights, narrow networks.
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

from boxel.api.detector import Detector
from boxel.io import read_image, write_image, write_label_map
from boxel.models import LSNet, UNet, UNetConfig
from boxel.models.base import Model
from boxel.nn.nd import channels_last
from boxel.preparation.anchors import retina_unet_anchors
from boxel.recipes import get_recipe
from boxel.training.memory import keep_freed_memory
from boxel.types import Geometry, Image, Normalisation, Task

ROWS = {
    "unet": "unet", "attention_unet": "unet", "coarse_to_fine_unet": "unet", "lsnet_unet": "unet",
    "fcn": "fcn", "coarse_to_fine_fcn": "fcn", "lsnet_fcn": "fcn",
}  # fmt: skip
SIZE = 320
VOLUME = (300, 512, 512)
# Networks are narrow: their own memory hides less of that of the volume. Without a least score, L-Net finds a region
# everywhere, so that the second stage has work.
MEMORY: dict[str, tuple[str, ...]] = {
    "lsnet_unet_small": (
        "model.first.min_score=0", "model.first.box_kernel=3", "model.first.filters=8", "model.second.filters=8",
        "model.first.backbone.start_filters=4", "model.second.backbone.start_filters=4",
    ),
    "retina_unet_small": (
        "plan.ndim=3", "plan.patch_size=[64,64,64]", "plan.strides=[[2,2,2],[2,2,2],[2,2,2],[2,2,2]]",
        "plan.levels=[2,3,4]", "plan.batch_size=2", "model.neck.filters=16", "model.neck.narrow_filters=8",
        "model.dense.filters=16", "model.backbone.start_filters=8", "model.backbone.depth=10",
    ),
}  # fmt: skip


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


def predict(recipe: str, segmentation: bool, file: Path) -> None:
    """Predict a volume with random weights, and print the peak GiB of this process."""
    keep_freed_memory()
    experiment = get_recipe(recipe).override(MEMORY[recipe])
    plan = experiment.plan
    levels = plan.levels or (2,)
    task = Task(
        name="noise", ndim=plan.ndim, channels=("CT",), classes=("lesion",), spacing=(1.0,) * 3,
        normalisation=(Normalisation(kind="ct", lower=-100, upper=240, mean=0, std=100),),
        patch_size=plan.patch_size, batch_size=plan.batch_size,
        strides=plan.strides, levels=levels, anchors=retina_unet_anchors(plan.ndim, levels, "mdt"), max_detections=100,
    )  # fmt: skip
    torch.manual_seed(0)
    config = experiment.predict.model_copy(
        update={"views": "identity", "overlap": 0.0, "tile_voxels": None, "segmentation": segmentation}
    )
    model = channels_last(experiment.model.build(task), plan.ndim)
    detector = Detector(task, [model], config, experiment.consolidate, segmentation_classes=("lesion",))
    image = read_image(file)
    raw, labels, shape = detector.predict_raw(image)
    detector.finish(raw, shape, image.geometry)
    if labels is not None:
        write_label_map(file.with_name("labels.nii.gz"), labels, image.geometry)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def memory(folder: Path, threads: int) -> None:
    """Print the peak memory of each recipe with and without a segmentation."""
    rng = np.random.default_rng(0)
    volume = rng.integers(-100, 100, VOLUME, np.int16)
    for centre in rng.integers(20, np.array(VOLUME) - 20, (30, 3)):
        volume[tuple(slice(at - 15, at + 15) for at in centre)] += 300
    write_image(folder / "volume.nii", Image(volume[None], Geometry.plain(VOLUME)))
    print("| recipe | boxes: peak GiB | with segmentation | ratio |\n|---|---|---|---|")
    for recipe in MEMORY:
        command = [sys.executable, __file__, "--threads", str(threads), "--one", recipe, str(folder / "volume.nii")]
        plain, whole = (
            float(subprocess.run([*command, how], check=True, stdout=subprocess.PIPE, text=True).stdout)
            for how in ("boxes", "segmentation")
        )
        print(f"| {recipe} | {plain:.2f} | {whole:.2f} | **{whole / plain:.2f}** |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="peak memory of predicting a volume instead")
    parser.add_argument("--one", nargs=3, metavar=("RECIPE", "FILE", "HOW"), help="measure one in this process")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.one:
        recipe, file, how = given.one
        predict(recipe, how == "segmentation", Path(file))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {given.threads} threads\n")
    if given.memory:
        with tempfile.TemporaryDirectory() as folder:
            memory(Path(folder), given.threads)
        return
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
