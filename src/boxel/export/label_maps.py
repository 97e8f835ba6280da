"""Detections as label maps: `CASE.nii.gz` of their numbers and `CASE.json` about these.

    {"1": {"score": 0.9, "label": 0}}    "class" with a name may stand for "label"

Boxes are tight around the masks. (Detections that may overlap: `boxel.export.nifti`.)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.config import did_you_mean, read_json
from boxel.io import read_label_map, split_suffix
from boxel.types import Detections


def is_label_maps(folder: Path) -> bool:
    """Whether a folder has such pairs of files."""
    return folder.is_dir() and bool(_pairs(folder))


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The label map and its JSON for each case."""
    pairs = {}
    for path in sorted(folder.iterdir()):
        stem, suffix = split_suffix(path)
        described = path.with_name(f"{stem}.json")
        if suffix and described.is_file() and not stem.endswith("_boxes"):
            pairs[stem] = path, described
    return pairs


def read_label_maps(folder: Path, classes: Sequence[str]) -> dict[str, Detections]:
    """The detections of each case, in the order of their numbers.

    Raises:
        ValueError: a number that only one of the two files has, a score outside 0..1, an unknown class.
    """
    from boxel.ops import boxes_from_label_map

    found = {}
    for case, (path, described) in _pairs(Path(folder)).items():
        image = read_label_map(path)
        entries = _read_entries(described, classes)
        ids = np.array(list(entries), np.int64)
        values = np.unique(image.array)
        if differing := sorted(set(values[values > 0].tolist()) ^ set(ids.tolist())):
            raise ValueError(
                f"{described}: number {differing[0]} is not in both this file and {path.name}; complete it"
            )
        boxes, _ = boxes_from_label_map(image.array, ids)  # type: ignore[arg-type]
        scores = np.array([score for score, _ in entries.values()], np.float32)
        labels = np.array([label for _, label in entries.values()], np.int64)
        found[case] = Detections(np.asarray(boxes), scores, labels, image.geometry)
    return found


def read_masks(folder: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """The label map of a case, and the numbers in the order of its detections."""
    path, described = _pairs(Path(folder))[case]
    return read_label_map(path).array, np.array(sorted(map(int, read_json(described))), np.int64)


def _read_entries(path: Path, classes: Sequence[str]) -> dict[int, tuple[float, int]]:
    """Score and label of each number, ascending."""
    record, entries = read_json(path), {}
    try:
        for number, entry in sorted(record.items(), key=lambda item: int(item[0])):
            name = entry["class"] if "class" in entry else classes[int(entry["label"])]
            if name not in classes:
                raise ValueError(f"{path}: number {number} has class {name!r}{did_you_mean(str(name), classes)}")
            if not 0 <= entry["score"] <= 1:
                raise ValueError(f"{path}: number {number} has score {entry['score']}, outside 0..1")
            entries[int(number)] = float(entry["score"]), list(classes).index(name)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: not {{"1": {{"score": 0.9, "label": 0}}}} with labels of the classes {list(classes)} ({error})'
        ) from None
    return entries
