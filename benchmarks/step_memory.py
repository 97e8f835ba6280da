"""The memory of a training step as `boxel plan` estimates it, and as measured: `python benchmarks/step_memory.py`.

    python benchmarks/step_memory.py --suffix "" --memory 8GB --models retina_unet yolov4

Each model is planned for made-up images (2D 512 x 512, 3D 128 x 128 x 128), calibrated on two small steps, and
then trained for some steps of the planned size in a process of its own. With --memory, the step is as large as fits.
On the CPU, the peak is that of the process, with its libraries; the process of a training has a few more.
"""

import argparse

from boxel.api.fitting import calibrate, fit, voxels_of
from boxel.preparation.fingerprint import CaseRecord, Fingerprint, Intensity
from boxel.preparation.plan import plan
from boxel.recipes import get_recipe
from boxel.training.cost import measure_step
from boxel.training.made_up import MadeUp

MODELS = ("retina_net", "retina_unet", "mask_rcnn", "faster_rcnn_plus", "ufrcnn_plus", "det_unet")
SHAPES = {2: (512, 512), 3: (128, 128, 128)}
OBJECTS = 3


def images(ndim: int) -> Fingerprint:
    """Three images with three objects each."""
    sizes = tuple((float(edge),) * ndim for edge in (12, 20, 32))
    case = {"shape": SHAPES[ndim], "spacing": (1.0,) * ndim, "labels": (0,) * OBJECTS, "sizes": sizes, "masks": OBJECTS}
    values = {"mean": 0, "std": 1, "minimum": -3, "maximum": 3}
    values |= {"percentile_00_5": -2, "median": 0, "percentile_99_5": 2}
    return Fingerprint(
        name="images", ndim=ndim, channels=("MRI",), classes=("a",), intensities=[Intensity(channel="MRI", **values)],
        intensities_of="objects", objects={}, cases=[CaseRecord(id=f"c{k}", **case) for k in range(3)],
        objects_per_image={"least": OBJECTS, "median": OBJECTS, "most": OBJECTS, "images_without": 0},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--ndim", nargs="+", type=int, default=(2, 3))
    parser.add_argument("--suffix", default="_small", help="of the recipes")
    parser.add_argument("--memory", default="")
    parser.add_argument("--set", nargs="+", default=[], dest="settings")
    given = parser.parse_args()
    names = ["model", "axes", "step", "MiB", "fixed", "KiB per voxel", "measured", "ratio", "seconds", "measured"]
    print(f"| {' | '.join(names)} |", "|---" * len(names) + "|", sep="\n")
    for ndim in given.ndim:
        fingerprint = images(ndim)
        for name in given.models:
            limit = [f"plan.memory={given.memory}"] if given.memory else []
            experiment = fit(fingerprint, get_recipe(f"{name}{given.suffix}").override([*given.settings, *limit]))
            task, train = plan(fingerprint, experiment.plan), experiment.train
            cost, voxels = calibrate(task, experiment, OBJECTS), voxels_of(task, train)
            measured = measure_step(MadeUp(OBJECTS), (), task, experiment.model, train)
            sides = "x".join(map(str, task.patch_size))
            peak = cost.peak(voxels)
            cells = (
                name, ndim, f"{train.batch_size or task.batch_size} of {sides}", f"{peak / 2**20:,.0f}",
                f"{cost.fixed / 2**20:,.0f}", f"{cost.per_voxel / 1024:.2f}", f"{measured.peak / 2**20:,.0f}",
                f"{peak / measured.peak:.2f}", f"{cost.seconds(voxels):.3g}", f"{measured.seconds:.3g}",
            )  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
