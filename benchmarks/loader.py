"""Samples that the loader feeds against samples that a training step consumes: `python benchmarks/loader.py`.

`retina_unet_small` as planned for toy images (320 x 320 and 64 x 64 x 64) on two threads. Reading in the training
process takes turns with the steps; a worker process reads by itself. Medians; augmentation is part of the step.
"""

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
from training import Training

from boxel.datasets.formats import open_dataset
from boxel.datasets.toy import make_toy
from boxel.loading.loader import batches
from boxel.loading.sampler import PatchSampler
from boxel.preparation.prepare import prepare
from boxel.recipes import get_recipe
from boxel.training.memory import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="retina_unet_small")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(2)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {os.cpu_count()} CPUs")
    print(f"{given.recipe}, {given.precision}, {given.device}\n")
    print("| patch | consumed, samples/s | read in the same process | ratio | by one worker | ratio |")
    print("|---|---|---|---|---|---|")
    experiment = get_recipe(given.recipe)
    for ndim in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            toy = make_toy(Path(folder) / "toy", num_train=6, num_val=1, num_test=1, ndim=ndim)
            store = prepare(open_dataset(toy), Path(folder) / "store", experiment.plan, workers=0)
            batch_size = experiment.train.batch_size or store.task.batch_size
            training = Training(store, given.recipe, None, batch_size, given.precision, given.device)
            steps = [training.step() for _ in range(given.steps + 1)][1:]
            # The first part of a step is reading and augmenting; reading alone is measured below.
            sampler, margin = experiment.train.sampler, experiment.train.augment.margin
            patches = PatchSampler(store, store.ids, store.task, sampler, seed=0, margin=margin)
            feeds = {}
            for num_workers in (0, 1):
                feed = batches(patches, batch_size, 0, 10 * given.steps + 10, num_workers=num_workers)
                for _ in range(10):
                    next(feed)
                start = time.perf_counter()
                count = sum(len(batch.images) for batch in feed)
                feeds[num_workers] = count / (time.perf_counter() - start)
            took = statistics.median(map(sum, steps)) - batch_size / feeds[0]
            size = " x ".join(map(str, (batch_size, *store.task.patch_size)))
            used = batch_size / took
            cells = [
                f"{used:.1f}",
                *(f"{value}" for rate in feeds.values() for value in (f"{rate:.0f}", f"**x {rate / used:.0f}**")),
            ]
            print(f"| {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
