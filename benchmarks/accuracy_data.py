"""The data sets of `benchmarks/accuracy.py`, and the folder in which the driver of a tool gets one of them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Dataset, LoadedCase, read_case
from boxel.experiments.default_sets import data_sets
from boxel.experiments.sources import Source
from boxel.files import write_text
from boxel.io import write_image, write_label_map
from boxel.types import Geometry, Image, Split, silent

VALIDATION = 40  # most images to choose on


def _opener(source: Source) -> Callable[[Path], Dataset]:
    return lambda folder: source.open(folder, silent)


# From an empty folder, or one that an earlier call has filled, to the data set.
DATA: dict[str, Callable[[Path], Dataset]] = {name: _opener(data.source) for name, data in data_sets().items()}


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
