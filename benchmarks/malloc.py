"""What keeping freed memory gains: seconds per training step with and without it, in turn.

    python benchmarks/malloc.py [--rounds 5] [--steps 10]

Each measurement is a process of its own, because the setting cannot be taken back. Printed are medians over the rounds,
and the median of the ratios round by round.
"""

import argparse
import statistics
import subprocess
import sys

STEP = """
import sys, time, torch
from boxel.recipes import get_recipe
from boxel.training.memory import keep_freed_memory
from boxel.types import Normalisation, Task

if sys.argv[1] == "kept" and not keep_freed_memory():
    raise SystemExit("this C library has no mallopt")
ndim, size, steps = map(int, sys.argv[2:])
task = Task(name="x", ndim=ndim, channels=("a",), classes=("b",), spacing=(1.0,) * ndim,
            normalisation=(Normalisation(),), patch_size=(size,) * ndim, batch_size=4,
            strides=((2,) * ndim,) * 4, levels=(2, 3), anchors=(((16.0,) * ndim,),) * 2)
torch.manual_seed(0)
model = get_recipe("retina_unet_small").model.build(task)
images = torch.randn((4, 1) + task.patch_size)
seconds = []
for _ in range(steps):
    start = time.perf_counter()
    outputs = model.infer(images, segmentation=True)
    (outputs.dense.logits.mean() + outputs.dense.deltas.mean() + outputs.segmentation.mean()).backward()
    seconds.append(time.perf_counter() - start)
print(sorted(seconds[2:])[len(seconds[2:]) // 2])
"""


def measure(setting: str, ndim: int, size: int, steps: int) -> float:
    command = [sys.executable, "-c", STEP, setting, str(ndim), str(size), str(steps)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    print("forward and backward of retina_unet_small, batch 4   default s   kept s   default / kept")
    for ndim, size in ((2, 320), (3, 64)):
        pairs = [
            [measure(setting, ndim, size, arguments.steps) for setting in ("default", "kept")]
            for _ in range(arguments.rounds)
        ]
        default, kept = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{'x'.join([str(size)] * ndim):<52}   {default:9.3f}   {kept:6.3f}   {ratio:14.2f}")


if __name__ == "__main__":
    main()
