"""Write data sets in the native layout, described in `boxel.datasets.formats.native`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.files import write_text
from boxel.io import write_image, write_label_map
from boxel.types import Image, Instances

__all__ = ["annotation_file", "write_case", "write_dataset", "write_splits"]

_PARTS = {"train": "Tr", "test": "Ts"}


def write_case(
    root: Path,
    case_id: str,
    image: Image,
    label_map: np.ndarray | None,
    labels: Mapping[int, int],
    *,
    split: str = "train",
    suffix: str = ".nii.gz",
    label_suffix: str = "",
    compress: bool = True,
    boxes: Instances | None = None,
    ignored: Instances | None = None,
    attributes: Mapping[int, Mapping[str, float]] | None = None,
) -> None:
    """Write one case. The annotation is written last, so an interrupted case has none.

    Args:
        root: folder of the data set.
        case_id: unique in the data set.
        image: `(c, *s)`; one file per channel.
        label_map: `(*s)` instance ids; None for a case without masks.
        labels: the class of each id.
        split: "train" or "test".
        suffix: suffix of the image files.
        label_suffix: suffix of the label map, if it differs from `suffix`.
        compress: whether to compress the image; the label map is always compressed.
        boxes: objects without a mask.
        ignored: ignored objects, excluded from training and scoring.
        attributes: further numbers about objects by their ids.
    """
    part = _PARTS[split]
    for channel, array in enumerate(image.array):
        path = root / f"images{part}" / f"{case_id}_{channel:04d}{suffix}"
        write_image(path, Image(array[None], image.geometry), compress=compress)
    if label_map is not None:
        write_label_map(root / f"labels{part}" / f"{case_id}{label_suffix or suffix}", label_map, image.geometry)
    annotation: dict[str, Any] = {"instances": {str(number): int(label) for number, label in labels.items()}}
    if boxes is not None and len(boxes):
        rows = zip(boxes.ids.tolist(), boxes.labels.tolist(), boxes.boxes.tolist(), strict=True)
        annotation["boxes"] = [{"id": i, "label": label, "lower": a, "upper": b} for i, label, (a, b) in rows]
    if ignored is not None and len(ignored):
        last = max([*labels, *(boxes.ids.tolist() if boxes is not None else ())], default=0)
        annotation["shapes"] = [
            {"id": last + row, "label": int(label), "points": corners.tolist(), "ignore": True}
            for row, (label, corners) in enumerate(zip(ignored.labels, ignored.boxes, strict=True), start=1)
        ]
    if attributes:
        annotation["attributes"] = {str(number): dict(known) for number, known in attributes.items()}
    write_text(annotation_file(root, case_id, split), json.dumps(annotation) + "\n")


def annotation_file(root: Path, case_id: str, split: str) -> Path:
    """The file that `write_case` writes last."""
    return root / f"labels{_PARTS[split]}" / f"{case_id}.json"


def write_dataset(
    root: Path,
    name: str,
    ndim: int,
    classes: Sequence[str],
    channels: Sequence[str],
    groups: Mapping[str, str] | None = None,
) -> None:
    """Write dataset.json. Do this last: it makes the folder a data set."""
    values: dict[str, Any] = {
        "name": name,
        "dim": ndim,
        "labels": {str(i): name for i, name in enumerate(classes)},
        "modalities": {str(i): name for i, name in enumerate(channels)},
    }
    if groups:
        values["groups"] = dict(groups)
    write_text(root / "dataset.json", json.dumps(values, indent=2) + "\n")


def write_splits(root: Path, folds: Sequence[Mapping[str, Sequence[str]]]) -> None:
    """Prescribe the folds, each `{"train": ids, "val": ids, "test": ids}`."""
    write_text(root / "splits.json", json.dumps([{k: list(v) for k, v in fold.items()} for fold in folds]) + "\n")
