"""What a hundred thousand of something costs, and whether ten times more cost more than that.

    python benchmarks/load.py                                 n and 10 n, at a tenth of the full sizes: minutes
    python benchmarks/load.py --full --only check prepare     the sizes of docs/results/load.md

Every row is one `boxel` command on generated files. CPU seconds (start included) and peak memory are those of its
process and all that it starts; on a busy machine seconds of the clock say little.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from experiments import PeakMemory

from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.toy import make_toy
from boxel.export.boxel_json import write_detections
from boxel.files import write_text
from boxel.io import write_image
from boxel.types import Detections, Geometry, Image, Instances

SIDE = 64  # of a small image
CLASSES = ("a", "b", "c")
Command = list[str]


def images(folder: Path, number: int) -> Path:
    """A data set of small images, each with two objects that have masks."""
    rng, data = np.random.default_rng(0), folder / "data"
    for case in range(number):
        label_map = np.zeros((SIDE, SIDE), np.uint8)
        for object_id in (1, 2):
            top, left = 32 * object_id - 28, rng.integers(4, 40)
            label_map[top : top + 20, left : left + 20] = object_id
        pixels = (rng.integers(0, 80, (1, SIDE, SIDE)) + 100 * (label_map > 0)).astype(np.uint8)
        image = Image(pixels, Geometry.plain((SIDE, SIDE)))
        write_case(data, f"case_{case:05d}", image, label_map, {1: case % 3, 2: 0}, suffix=".png")
    write_dataset(data, "small", 2, CLASSES, ["microscopy"])
    return data


def detections(folder: Path, number: int, each: int) -> Path:
    """Predictions of `images`: `each` boxes per image at random."""
    rng, out = np.random.default_rng(1), folder / "predictions"
    for case in range(number):
        found = random_boxes(rng, each, SIDE, 20.0)
        write_detections(out / f"case_{case:05d}.json", found, f"case_{case:05d}", CLASSES)
    return out


def random_boxes(rng: np.random.Generator, number: int, side: float, size: float, ndim: int = 2) -> Detections:
    lower = rng.uniform(0, side - size, (number, ndim))
    boxes = np.stack([lower, lower + rng.uniform(0.5, 1, (number, ndim)) * size], 1).astype(np.float32)
    return Detections(boxes, rng.random(number).astype(np.float32), rng.integers(0, len(CLASSES), number))


def crowd(folder: Path, objects: int, found: int) -> Command:
    """One volume with many objects and detections, half of which lie on an object."""
    rng, data, shape = np.random.default_rng(2), folder / "data", (64, 512, 512)
    boxes = random_boxes(rng, objects, 64, 6.0, 3)
    spread = boxes.boxes * np.array([1, 8, 8], np.float32)
    spread[:, 1] = spread[:, 0] + (boxes.boxes[:, 1] - boxes.boxes[:, 0])
    instances = Instances(spread.astype(np.float64), boxes.labels, np.arange(1, objects + 1), np.zeros(objects, bool))
    image = Image(np.zeros((1, *shape), np.uint8), Geometry.plain(shape))
    write_case(data, "crowd", image, None, {}, boxes=instances)
    write_dataset(data, "crowd", 3, CLASSES, ["MRI"])
    moved = spread[rng.integers(0, objects, found)] + rng.normal(0, 0.4, (found, 1, 3))
    moved[::2] = random_boxes(rng, found, 64, 6.0, 3).boxes[::2]
    moved = np.clip(moved, 0, shape).astype(np.float32)
    labels = rng.integers(0, len(CLASSES), found)
    write_detections(
        folder / "predictions" / "crowd.json", Detections(moved, rng.random(found), labels), "crowd", CLASSES
    )
    return ["evaluate", str(folder / "predictions"), str(data), "--out", str(folder / "out")]


def evaluate_cases(folder: Path, number: int) -> Command:
    data = images(folder, number)
    return ["evaluate", str(detections(folder, number, 10)), str(data), "--out", str(folder / "out")]


def evaluate_classes(folder: Path, number: int) -> Command:
    """A hundred images with objects and detections of `number` classes."""
    rng, data, names = np.random.default_rng(3), folder / "data", [f"class {k}" for k in range(number)]
    for case in map("case_{}".format, range(100)):
        found, image = (
            random_boxes(rng, 40, 256, 30.0),
            Image(np.zeros((1, 256, 256), np.uint8), Geometry.plain((256, 256))),
        )
        labels = rng.integers(0, number, 40)
        instances = Instances(found.boxes.astype(np.float64), labels, np.arange(1, 41), np.zeros(40, bool))
        write_case(data, case, image, None, {}, boxes=instances, suffix=".png")
        mistaken = np.where(rng.random(40) < 0.3, rng.integers(0, number, 40), labels)
        write_detections(
            folder / "predictions" / f"{case}.json", Detections(found.boxes, found.scores, mistaken), case, names
        )
    write_dataset(data, "classes", 2, names, ["microscopy"])
    return ["evaluate", str(folder / "predictions"), str(data), "--out", str(folder / "out")]


def check(folder: Path, number: int) -> Command:
    return ["check", str(images(folder, number))]


def prepare(folder: Path, number: int) -> Command:
    return ["prepare", str(images(folder, number)), "--out", str(folder / "work"), "--recipe", "retina_unet_small"]


def coco(folder: Path, number: int) -> Command:
    """A COCO file of `number` boxes on images with 100 each."""
    rng, data = np.random.default_rng(4), folder / "data"
    count = max(number // 100, 1)
    for image in range(count):
        pixels = rng.integers(0, 255, (1, SIDE, SIDE)).astype(np.uint8)
        (data / "images").mkdir(parents=True, exist_ok=True)
        write_image(data / "images" / f"{image}.png", Image(pixels, Geometry.plain((SIDE, SIDE))))
    boxes = np.concatenate([rng.uniform(0, 40, (number, 2)), rng.uniform(4, 20, (number, 2))], 1).round(2).tolist()
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": SIDE, "height": SIDE} for k in range(count)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [
            {"id": k, "image_id": k % count, "category_id": k % 3, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, box in enumerate(boxes)
        ],
    }
    write_text(data / "annotations.json", json.dumps(content))
    return ["check", str(data)]


def report(folder: Path, number: int) -> Command:
    data = images(folder, number)
    own = str(detections(folder, number, 10))
    run = trained(folder, data)
    return ["report", str(run), "--predictions", own, "--dataset", str(data)]


def trained(folder: Path, data: Path, *settings: str) -> Path:
    """A run of two steps on the data set or, where that is large, on its like."""
    small = data if len(list((data / "imagesTr").iterdir())) < 50 else images(folder / "like", 10)
    sets = [word for one in ("train.steps=2", "train.validate_every=2", *settings) for word in ("--set", one)]
    call(["prepare", str(small), "--out", str(folder / "work_of_run"), "--recipe", "retina_unet_small"])
    call(["train", str(folder / "work_of_run"), "--out", str(folder / "run"), *sets])
    return folder / "run"


def volume(folder: Path, planes: int) -> Command:
    """A volume of `planes` x 512 x 512 voxels, one view, tiles as large as the memory allows."""
    data = make_toy(folder / "toy", ndim=3, num_train=6, num_val=0, num_test=0)
    run = trained(folder, data)
    noise = np.random.default_rng(5).random((1, planes, 512, 512), dtype=np.float32)
    write_image(folder / "images" / "volume.mha", Image(noise, Geometry.plain(noise.shape[1:])), compress=False)
    settings = ["--set", "predict.views=identity", "--set", f"predict.tile_voxels={2**30}"]
    return ["predict", str(run), str(folder / "images"), "--out", str(folder / "out"), *settings]


def slide(folder: Path, side: int) -> Command:
    """A tiled TIFF of `side` x `side` pixels."""
    import tifffile

    run = trained(folder, images(folder / "like", 10))
    (folder / "images").mkdir()
    tile = np.random.default_rng(6).integers(0, 255, (512, 512)).astype(np.uint8)
    count = (-(-side // 512)) ** 2
    tifffile.imwrite(folder / "images" / "slide.tif", (tile for _ in range(count)), shape=(side, side), dtype=np.uint8,
                     tile=(512, 512), photometric="minisblack")  # fmt: skip
    return [
        "predict",
        str(run),
        str(folder / "images"),
        "--out",
        str(folder / "out"),
        "--set",
        "predict.views=identity",
    ]


@dataclass(frozen=True)
class Row:
    """What is measured: `make(folder, n)` writes the files and returns the command; `size` is n in full."""

    make: Callable[[Path, int], Command]
    what: str
    size: int
    goal: str
    smaller: int = 10  # the full size over the default one


ROWS = {
    "check": Row(check, "small images, check", 20_000, "30 s, 500 MB"),
    "prepare": Row(prepare, "small images, prepare", 20_000, "150 s, memory independent of n"),
    "coco": Row(coco, "COCO annotations, check", 200_000, "6 s"),
    "cases": Row(evaluate_cases, "cases with 10 detections, evaluate", 20_000, "15 s, 1 GB"),
    "one_file": Row(lambda folder, n: crowd(folder, n // 20, n), "detections in one file, evaluate", 100_000, "5 s"),
    "crowd": Row(lambda folder, n: crowd(folder, n, n), "objects in one case, evaluate", 60_000, "20 s"),
    "classes": Row(evaluate_classes, "classes, evaluate", 1_000, "1 GB"),
    "report": Row(report, "cases with 10 detections, report", 20_000, "60 s, page under 20 MB"),
    "volume": Row(volume, "x 512 x 512 voxels, predict", 600, "2 GB"),
    "slide": Row(slide, "pixels along each side of a TIFF, predict", 30_000, "1 GB"),
}


def call(command: Command) -> None:
    arguments = [sys.executable, "-m", "boxel", *command]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"boxel {' '.join(command)}: exit status {done.returncode}\n{done.stdout[-2000:]}")


def measure(row: Row, size: int) -> tuple[float, float, float]:
    """CPU seconds, peak memory in GB, and the size in MB of the largest HTML page written."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = row.make(folder, size)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with PeakMemory() as memory:
            call(command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        pages = [page.stat().st_size / 1e6 for page in folder.rglob("*.html")]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, memory.peak * 2**30 / 1e9, max(pages, default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--full", action="store_true", help="the full sizes, an hour")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {os.cpu_count()} CPUs\n")
    print(
        "| work | n / 10: CPU s | GB | n: CPU s | GB | times | goal of the full size |\n|---|---|---|---|---|---|---|"
    )
    for name in given.only:
        row = ROWS[name]
        size = row.size if given.full else row.size // row.smaller
        (less, small, _), (more, large, page) = measure(row, size // 10), measure(row, size)
        cells = [f"{size:,} {row.what}", f"{less:.1f}", f"{small:.2f}", f"**{more:.1f}**", f"**{large:.2f}**"]
        cells += [f"{more / less:.1f}" + (f", page {page:.1f} MB" if page else ""), row.goal]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
