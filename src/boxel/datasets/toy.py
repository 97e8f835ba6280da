"""The toy data of Retina U-Net: one disc or ring per noisy image; balls and hollow balls in 3D.

The paper states diameters of 20 (19 and 20 in the scale task) and 4 (hole). Preset `paper` draws them: an object spans
exactly its diameter, centred between voxels where that is even and on a voxel where it is odd. The published toolkit
takes the same numbers for radii, around a voxel: preset `mdt`, where an object of radius r spans 2r - 1 voxels.

| voxels | 2D `paper` | 2D `mdt` | 3D `paper` | 3D `mdt` |
|---|---|---|---|---|
| disc | 20 | 39 | 10 | 19 |
| hole | 4 | 7 | 2 | 3 |
| small and large | 19 and 20 | 37 and 39 | 9 and 10 | 19 and 20 |

Objects in 3D are half as large. There the toolkit's radii of 9.5 and 10 would both span 19 voxels, so its small and
large balls are drawn like those of the paper, with their diameters of 19 and 20.

Reference: Jaeger et al., Retina U-Net, 2018, section 4; Medical Detection Toolkit, `toy_exp`.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import did_you_mean
from boxel.datasets.formats.native_writer import annotation_file, write_case, write_dataset, write_splits
from boxel.files import write_text
from boxel.inputs.texts import read_json
from boxel.output_folder import check_empty, working_in
from boxel.types import Geometry, Image, Progress, silent

__all__ = ["PRESETS", "TASKS", "make_toy", "toy_image", "toy_object"]

TASKS = {
    "donuts_shape": ("disc", "donut"),
    "donuts_pattern": ("disc", "donut"),
    "circles_scale": ("small", "large"),
}
PRESETS = {"paper": 1.0, "mdt": 2.0}  # diameter drawn per "diameter" of the paper
SIZES = {2: 320, 3: 64}  # default voxels per axis
SCALES = {2: 1.0, 3: 0.5}  # of the objects, so that they fit
DIAMETERS = {"donuts_shape": (20, 20), "donuts_pattern": (20, 20), "circles_scale": (19, 20)}
HOLE = 4
MARGIN = 10  # of the centre from the border; larger objects are cut by it
CONTRAST = 0.2


def toy_image(
    task: str, preset: str, shape: tuple[int, ...], rng: np.random.Generator, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, int]:
    """One image `(*s)` float32 in 0..1.2, its label map `(*s)` uint8 with object 1, and the object's class.

    Uniform noise 0..1 everywhere, plus 0.2 in the object. The class is 0 or 1 with equal probability; the centre is
    drawn uniformly, at least 10 `scale` voxels from the border.
    """
    label = int(rng.integers(2))
    margin = max(1, round(MARGIN * scale))
    centre = [int(rng.integers(margin, n - margin)) for n in shape]
    bright, mask = toy_object(task, preset, shape, centre, label, scale)
    image = rng.random(shape, dtype=np.float32) + CONTRAST * bright.astype(np.float32)
    return image, mask.astype(np.uint8), label


def toy_object(
    task: str, preset: str, shape: tuple[int, ...], centre: Sequence[int], label: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """What an object of class `label` at `centre` brightens, and its mask, each `(*s)` bool."""
    exact = _is_exact(task, preset, scale)
    factor = PRESETS[preset] * scale
    whole = _ball(shape, centre, DIAMETERS[task][label] * factor, exact=exact)
    if task == "circles_scale" or label == 0:
        return whole, whole
    ring = whole & ~_ball(shape, centre, HOLE * factor, exact=exact)
    return ring, ring if task == "donuts_shape" else whole


def _is_exact(task: str, preset: str, scale: float) -> bool:
    """Whether objects span exactly their diameter; else they have their radius around a voxel, as in the toolkit.

    The toolkit's way needs whole radii: it draws 9.5 and 10 equally wide.
    """
    return preset == "paper" or any(diameter * PRESETS[preset] * scale % 2 for diameter in DIAMETERS[task])


def _ball(shape: tuple[int, ...], centre: Sequence[int], diameter: float, *, exact: bool) -> np.ndarray:
    """The voxels nearer than half a diameter to the voxel `centre`, or, if the diameter is even, to its lower edge.

    Args:
        exact: the ball spans `diameter`, without its fraction, on every axis.
    """
    if exact:
        diameter = int(diameter)
    shift = 0.5 if exact and diameter % 2 == 0 else 0.0
    squared = np.zeros(shape, np.float32)
    for axis, c in enumerate(centre):
        distance = np.arange(shape[axis]) - c + shift
        squared += distance.reshape([-1 if k == axis else 1 for k in range(len(shape))]) ** 2
    return squared < (diameter / 2) ** 2


def make_toy(
    out: Path,
    task: str = "donuts_shape",
    preset: str = "mdt",
    *,
    num_train: int = 1000,
    num_val: int = 500,
    num_test: int = 1000,
    ndim: int = 2,
    size: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Path:
    """Write a toy data set in the native layout and return its folder.

    Every image has its own seed: all are distinct, and a larger set begins with the images of a smaller one. Rerun an
    interrupted call to resume it.

    Args:
        out: a new or empty folder, or one written with the same settings.
        task: "donuts_shape" (hole in image and mask), "donuts_pattern" (in the image only), "circles_scale".
        preset: "paper" (the numbers of the paper are diameters) or "mdt" (the toolkit's: the same numbers are radii).
        num_train: training images.
        num_val: validation images, listed in `splits.json`; 0: no file, so that `prepare` draws folds.
        num_test: test images.
        ndim: 2 or 3.
        size: voxels per axis; by default 320 in 2D and 64 in 3D, where objects are half as large.
        seed: random seed of the images.
        progress: called with the stage, the images done and all images.

    Raises:
        ValueError: for an unknown task or preset, an impossible size, or if `out` contains something else.
    """
    if task not in TASKS:
        raise ValueError(f"unknown toy task {task!r}{did_you_mean(task, TASKS)}")
    if preset not in PRESETS:
        raise ValueError(f"unknown toy preset {preset!r}{did_you_mean(preset, PRESETS)}")
    if ndim not in SIZES:
        raise ValueError(f"ndim is {ndim}; choose 2 or 3")
    size = size or SIZES[ndim]
    if size <= 2 * MARGIN:
        raise ValueError(f"size is {size}; choose more than {2 * MARGIN} voxels per axis")
    counts = {"train": num_train, "val": num_val, "test": num_test}
    if min(counts.values()) < 0 or not num_train:
        raise ValueError(f"{counts} images; choose at least one for training and no negative number")
    settings = {"task": task, "preset": preset, "counts": counts, "ndim": ndim, "size": size, "seed": seed}
    settings["version"] = (
        2 if _is_exact(task, preset, SCALES[ndim]) else 1
    )  # 1: objects that are drawn as they always were
    out = Path(out)
    if not (out / "toy.json").exists():
        check_empty(out, "toy")
    with working_in(out, "toy"):
        _write_toy(out, settings, progress)
    return out


def _write_toy(out: Path, settings: dict, progress: Progress) -> None:
    _claim(out, settings)
    task, preset, ndim, size, counts, seed = (
        settings[key] for key in ("task", "preset", "ndim", "size", "counts", "seed")
    )
    total, digests = sum(counts.values()), set()
    for part_index, (part, count) in enumerate(counts.items()):
        for index in range(count):
            rng = np.random.default_rng([seed, part_index, index])
            image, label_map, label = toy_image(task, preset, (size,) * ndim, rng, SCALES[ndim])
            digests.add(hashlib.sha256(image.tobytes()).digest())
            split = "test" if part == "test" else "train"
            case_id = f"{part}_{index:05d}"
            if not annotation_file(out, case_id, split).exists():
                # Noise does not compress: plain .mha writes 10 times faster than .nii.gz, 10 % larger.
                geometry = Geometry.plain(image.shape)
                write_case(out, case_id, Image(image[None], geometry), label_map, {1: label}, split=split,
                           suffix=".mha", compress=False)  # fmt: skip
            progress("generate", len(digests), total)
    if len(digests) != total:
        raise RuntimeError(f"{total - len(digests)} of {total} toy images are duplicates")
    ids = {part: [f"{part}_{index:05d}" for index in range(count)] for part, count in counts.items()}
    if counts["val"]:  # without, folds are drawn
        write_splits(out, [ids])
    write_dataset(out, f"toy_{task}_{preset}", ndim, TASKS[task], ["intensity"])


def _claim(out: Path, settings: dict) -> None:
    """Record the settings in `out`, or refuse a folder that contains something else."""
    record = out / "toy.json"
    if record.exists():
        known = {"version": 1, **read_json(record, dict[str, Any])}
        if {**known, "version": settings["version"]} == settings != known:
            raise ValueError(
                f"{out}: an earlier Boxel drew these toy images, with objects a voxel too small; "
                "choose another folder, or remove this one to draw them again"
            )
        if known != settings:
            raise ValueError(
                f"{out}: contains toy data with other settings, {known}; choose another folder or remove it"
            )
    write_text(record, json.dumps(settings, indent=2) + "\n")
