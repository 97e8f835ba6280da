"""Predictions as files, made from the truth of a data set."""

import json

import numpy as np

from boxel.export import write_detections
from boxel.io import write_label_map
from boxel.types import Detections


def as_detections(loaded, scores=None):
    boxes, labels = loaded.instances.boxes, loaded.instances.labels
    scores = np.linspace(0.9, 0.6, len(boxes)).astype(np.float32) if scores is None else scores
    return Detections(boxes, scores, labels, loaded.image.geometry)


def write_boxel(folder, data, cases, **changes):
    for name, loaded in cases.items():
        detections = changes.get(name, as_detections(loaded))
        write_detections(folder / f"{name}.json", detections, name, data.classes)
    return folder


def write_maps(folder, data, cases):
    """The objects' masks, renumbered."""
    folder.mkdir()
    for name, loaded in cases.items():
        labels = np.zeros(loaded.image.geometry.shape, np.int32)
        entries = {}
        for k, (number, label) in enumerate(zip(loaded.instances.ids, loaded.instances.labels, strict=True)):
            labels[loaded.label_map == number] = 20 - k
            entries[str(20 - k)] = {"score": 0.9, "class": data.classes[label]}
        write_label_map(folder / f"{name}.nii.gz", labels, loaded.image.geometry)
        (folder / f"{name}.json").write_text(json.dumps(entries))
    return folder
