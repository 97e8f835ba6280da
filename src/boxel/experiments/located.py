"""How well a first stage locates: the IoU of the best box on each slice and that of the true object.

Reference: L-SNet, tables 3 and 4 (mIoU).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from boxel.config import read_json, write_text
from boxel.consolidation.raw_file import raw_files, read_raw_file
from boxel.datasets.cases import Dataset, read_case
from boxel.experiments.cell import Cell, open_source
from boxel.experiments.state import CellState
from boxel.ops import paired_overlap

__all__ = ["located_iou", "mean_located_iou"]


def mean_located_iou(out: Path, cells: Sequence[CellState], model: str) -> float | None:
    """The mean over the done cells of a model; None without any. What is there is used again."""
    values = []
    for cell in cells:
        if cell.state != "done" or cell.values.get("model") != model:
            continue
        path = out / "cells" / cell.name / "located.json"
        if not path.exists():
            dataset = open_source(Cell.load(path.with_name("cell.json")).source, out)
            write_text(path, json.dumps({"mIoU": located_iou(path.parent / "predictions", dataset)}))
        values.append(read_json(path)["mIoU"])
    return float(np.mean(values)) if values else None


def located_iou(predictions: Path, dataset: Dataset) -> float:
    """The mean over the slices with an object of the IoU of the highest-scored raw box there and the objects' box.

    All objects of a slice count as one, as in the paper; a slice where nothing is located counts 0. Raw boxes are
    without the margin of their region.

    Args:
        predictions: of a slice-wise model on volumes, with its raw boxes.
    """
    overlaps: list[float] = []
    for file in raw_files(predictions):
        prediction = read_raw_file(file)
        label_map = read_case(dataset[prediction.case], dataset).label_map
        if label_map is None:
            raise ValueError(f"{dataset.root}: case {prediction.case!r} has no masks, from which slices take their box")
        lead = prediction.raw.slice_axes
        scale = np.asarray(prediction.shape) / np.asarray(label_map.shape)
        for index in np.ndindex(*label_map.shape[:lead]):
            voxels = np.argwhere(label_map[index] > 0)
            if not len(voxels):
                continue
            true = np.stack([voxels.min(0), voxels.max(0) + 1]) * scale[lead:]
            place = np.floor((np.asarray(index) + 0.5) * scale[:lead])
            here = np.flatnonzero((prediction.raw.boxes[:, 0, :lead] == place).all(1))
            if not len(here):
                overlaps.append(0.0)
                continue
            best = prediction.raw.boxes[here[prediction.raw.scores[here].argmax()], :, lead:]
            located, expected = (torch.from_numpy(np.asarray(box, np.float32)) for box in (best, true))
            overlaps.append(float(paired_overlap(located, expected)))
    return float(np.mean(overlaps)) if overlaps else float("nan")
