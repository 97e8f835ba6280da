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


def write_segmentations(folder, data, cases, *, suffix="_seg.nii.gz", names=None, **changes):
    """Label maps of the objects' classes; with `names` of the values, also what `boxel predict` writes beside them.

    `changes` holds for some cases what becomes of the label map.
    """
    for name, loaded in cases.items():
        labels = np.zeros(loaded.image.geometry.shape, np.uint8)
        for number, label in zip(loaded.instances.ids, loaded.instances.labels, strict=True):
            labels[loaded.label_map == number] = label + 1
        if names == ("foreground",):
            labels = np.minimum(labels, 1)
        folder.mkdir(exist_ok=True)
        write_label_map(folder / f"{name}{suffix}", changes.get(name, np.copy)(labels), loaded.image.geometry)
        if names:
            values = {str(value): text for value, text in enumerate(("background", *names))}
            extra = {"segmentation": {"file": f"{name}{suffix}", "values": values}}
            image_files = data[name].channels
            detections = as_detections(loaded)
            write_detections(
                folder / f"{name}.json", detections, name, data.classes, image_files=image_files, extra=extra
            )
    return folder
