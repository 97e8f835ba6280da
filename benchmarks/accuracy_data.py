"""The data sets of `benchmarks/accuracy.py`, and the folder in which the driver of a tool gets one of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Dataset, LoadedCase, read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.experiments.sources import project_data
from boxel.files import write_text
from boxel.io import read_image, read_label_map, write_image, write_label_map
from boxel.types import Geometry, Image, Split

VALIDATION = 40  # most images to choose on


def blood_cells(folder: Path) -> Dataset:
    return open_dataset(Path(project_data("blood_cells/BCCD")), format="voc")


def nuclei(folder: Path) -> Dataset:
    script = Path(__file__).parents[1] / "docs" / "convert_nuclei.py"
    if not (folder / "dataset.json").exists():
        command = [sys.executable, script, "--data", project_data("nuclei"), "--out", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return open_dataset(folder)


def nuclei3d(folder: Path) -> Dataset:
    """Three volumes, one for each part: too few to compare tools, enough to see that they run."""
    if (folder / "dataset.json").exists():
        return open_dataset(folder)
    data = Path(project_data("nuclei3d"))
    volumes = {
        "16_cells": ("mouse_embryo_qcanet/16_cell_stage_raw.tif", "mouse_embryo_qcanet/16_cell_stage_instances.tif"),
        "dense": ("stardist/img3d.tif", "stardist/mask3d.tif"),
        "8_cells": ("mouse_embryo_qcanet/8_cell_stage_raw.tif", "mouse_embryo_qcanet/8_cell_stage_instances.tif"),
    }
    for name, (image, label_map) in volumes.items():
        pixels, ids = read_image(data / image), read_label_map(data / label_map).array
        scaled = (pixels.array / pixels.array.max()).astype(np.float32)
        labels = {int(number): 0 for number in np.unique(ids[ids > 0])}
        split = "test" if name == "8_cells" else "train"
        grid = Geometry.plain(ids.shape)
        write_case(folder, name, Image(scaled, grid), ids, labels, split=split)
    write_splits(folder, [{"train": ["16_cells"], "val": ["dense"]}])
    write_dataset(folder, "nuclei3d", 3, ["nucleus"], ["fluorescence"])
    return open_dataset(folder)


# From an empty folder, or one that an earlier call has filled, to the data set.
DATA: dict[str, Callable[[Path], Dataset]] = {"blood_cells": blood_cells, "nuclei": nuclei, "nuclei3d": nuclei3d}


def write_exchange(dataset: Dataset, split: Split, folder: Path) -> None:
    """Write what drivers read, see `peers/exchange.py`; test images come without their objects."""
    val = split.val if len(split.val) <= VALIDATION else np.random.default_rng(0).permutation(split.val)[:VALIDATION]
    parts = {"train": split.train, "val": sorted(map(str, val)), "test": split.test}
    scale = window(dataset, split.train)
    cases = [
        _written(read_case(dataset[case], dataset, repair=True), case, part, scale, folder)
        for part, ids in parts.items()
        for case in ids
    ]
    spacing = read_case(dataset[split.train[0]], dataset, repair=True).image.geometry.spacing
    record = {"ndim": dataset.ndim, "channels": len(dataset.channels), "classes": dataset.classes, "spacing": spacing}
    write_text(folder / "data.json", json.dumps({**record, "cases": cases}))


def window(dataset: Dataset, ids: Iterable[str]) -> tuple[float, float]:
    """The grey values that become black and white: those of 8 bits stay, others are cut at 0.5 and 99.5 %."""
    ends = []
    for case in ids:
        array = read_case(dataset[case], dataset, repair=True).image.array
        ends.append((array.min(), array.max(), *np.percentile(array, (0.5, 99.5))))
    lowest, highest, low, high = np.array(ends, np.float64).T
    if lowest.min() >= 0 and 1 < highest.max() <= 255:
        return 0.0, 255.0
    return float(np.median(low)), float(np.median(high))


def _written(loaded: LoadedCase, case: str, part: str, scale: tuple[float, float], folder: Path) -> dict[str, object]:
    """One case of `data.json`, after its files."""
    suffix = ".png" if loaded.image.array.ndim == 3 else ".nii.gz"
    image, label_map = f"images/{case}{suffix}", None
    array, geometry = loaded.image.array, loaded.image.geometry
    if suffix == ".png":
        low, high = scale
        array = (np.clip((array - low) / max(high - low, 1e-6), 0, 1) * 255).round().astype(np.uint8)
        geometry = Geometry.plain(geometry.shape)
    write_image(folder / image, Image(array, geometry))
    objects = loaded.instances if part != "test" else loaded.instances[:0]
    if loaded.label_map is not None and len(objects) and objects.has_mask.all():
        label_map = f"label_maps/{case}{suffix}"
        numbers = np.zeros(max(int(loaded.label_map.max()), int(objects.ids.max())) + 1, np.int32)
        numbers[objects.ids] = np.arange(1, len(objects) + 1)
        write_label_map(folder / label_map, numbers[loaded.label_map], geometry)
    boxes, labels = objects.boxes.tolist(), objects.labels.tolist()
    return {"id": case, "part": part, "image": image, "label_map": label_map, "boxes": boxes, "labels": labels}
