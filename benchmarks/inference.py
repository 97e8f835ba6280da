"""Seconds and memory of predicting one large volume: `python benchmarks/inference.py`.

    python benchmarks/inference.py --shape 128 256 256 --precision bf16 --model retina_unet

Noise, random weights, `mdt_lidc_3d` (patches of 64 x 128 x 128, overlap 0.25), one view. Untrained, every cell is a
candidate: suppression has more to do than it ever will. Each measurement is a process of its own; its peak of memory
includes the image and the libraries.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import date

import numpy as np
import torch

from boxel.inference.raw import predict_raw
from boxel.models import ModelConfig
from boxel.nn.nd import channels_last
from boxel.preparation.anchors import retina_unet_anchors
from boxel.recipes import get_recipe
from boxel.training.memory import keep_freed_memory
from boxel.types import Normalisation, Task

SHAPES = [(128, 256, 256), (300, 512, 512)]


def measure(name: str, shape: list[int], precision: str, batch_size: int | None, device: str) -> dict[str, float]:
    """Of this process: seconds, peak bytes, boxes before consolidation."""
    keep_freed_memory()
    experiment = get_recipe("mdt_lidc_3d", name)
    plan = experiment.plan
    task = Task(
        name="noise",
        ndim=3,
        channels=("CT",),
        classes=("benign", "malignant"),
        spacing=plan.spacing,
        normalisation=(Normalisation(),),
        patch_size=plan.patch_size,
        batch_size=plan.batch_size,
        strides=plan.strides,
        levels=plan.levels,
        anchors=retina_unet_anchors(3, plan.levels, "mdt"),
        max_detections=plan.max_detections,
    )
    torch.manual_seed(0)
    model = channels_last(experiment.model.build(task).eval(), 3).to(device)
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    config = experiment.predict.model_copy(
        update={"views": "identity", "precision": precision, "batch_size": batch_size}
    )
    with torch.inference_mode():
        predict_raw([model], image[:, :64, :128, :128], 0.0, task, config, torch.device(device))  # compiles suppression
        start = time.perf_counter()
        found = predict_raw([model], image, 0.0, task, config, torch.device(device))
    took = time.perf_counter() - start
    return {"seconds": took, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "boxes": len(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs=3, type=int, action="append", help="may be repeated")
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--model", nargs="+", choices=list(ModelConfig.registry), default=["retina_net", "retina_unet"])
    parser.add_argument("--batch-size", type=int, help="tiles at a time; default as boxel predict")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU")
    parser.add_argument("--one", action="store_true", help="measure one combination in this process, print JSON")
    given = parser.parse_args()
    shapes = given.shape or SHAPES
    torch.set_num_threads(given.threads)
    if given.one:
        print(json.dumps(measure(given.model[0], shapes[0], given.precision[0], given.batch_size, given.device)))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {given.device}, ", end="")
    print(f"{given.threads} threads, torch {torch.__version__}\n")
    print("| volume | model | precision | s | peak GiB | boxes |\n|---|---|---|---|---|---|")
    for shape in shapes:
        for name in given.model:
            for precision in given.precision:
                settings = {"--precision": precision, "--model": name, "--device": given.device}
                settings |= {"--threads": given.threads} | (
                    {"--batch-size": given.batch_size} if given.batch_size else {}
                )
                command = [sys.executable, __file__, "--one", "--shape", *map(str, shape)]
                command += [str(word) for pair in settings.items() for word in pair]
                result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                cells = [" x ".join(map(str, shape)), name, precision, f"**{result['seconds']:.1f}**"]
                cells += [f"{result['bytes'] / 2**30:.2f}", f"{result['boxes']:,}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
