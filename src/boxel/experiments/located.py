"""How well a first stage locates: the IoU of the best box on each slice and that of the true object.

Reference: L-SNet, tables 3 and 4 (mIoU).
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from boxel.consolidation.raw_file import raw_files, read_raw_file
from boxel.datasets.cases import Dataset, read_case
from boxel.experiments.cell import DERIVED, Cell, open_source, predict_training
from boxel.experiments.state import CellState
from boxel.files import write_text
from boxel.inputs.texts import REMAKE, read_json
from boxel.locks import locked
from boxel.ops import paired_overlap

__all__ = ["HEADINGS", "located_iou", "mean_located_iou"]

Part = Literal["train", "test"]
TRAINING_CASES = 20  # of a run, drawn at random: more than enough slices for a mean
HEADINGS: dict[Part, str] = {
    "train": f"mIoU of training slices (at most {TRAINING_CASES} cases)",
    "test": "mIoU of test slices",
}


def mean_located_iou(out: Path, cells: Sequence[CellState], model: str, part: Part) -> float | None:
    """The mean over the done cells of a model that still have their run; None without any.

    What is there is used again. Training cases are predicted first.
    """
    names = {cell.name for cell in cells if cell.state == "done" and cell.values.get("model") == model}
    folders = [folder for name in sorted(names) if ((folder := out / "cells" / name) / "run" / "split.json").exists()]
    values = []
    for folder in folders:
        # Another process may collect at the same time.
        with locked(folder, "boxel experiment", ".located.lock", patience=math.inf):
            values.append(_of_cell(folder, part))
    return float(np.mean(values)) if values else None


def _of_cell(folder: Path, part: Part) -> float:
    path, heading = folder / DERIVED / "located.json", HEADINGS[part]
    known = read_json(path, dict[str, float | None], REMAKE) if path.exists() else {}
    if heading not in known:
        cell = Cell.load(folder / "cell.json")
        dataset = open_source(cell.source, folder.parent.parent)
        predictions = folder / "predictions"
        if part == "train":
            predictions = predict_training(folder, dataset, cell.split_seed, TRAINING_CASES)
        known = {**known, heading: located_iou(predictions, dataset)}
        write_text(path, json.dumps(known))
    return float(known[heading])


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
