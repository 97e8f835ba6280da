"""Whether a file of `boxel.export.boxel_json` holds what it must: errors name the file, the key and the rule.

Usual files are checked column by column; anything unusual is checked value by value, which says what is wrong.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import did_you_mean
from boxel.export.entries import LARGEST
from boxel.export.mask_text import mask_from_text
from boxel.types import Geometry

__all__ = ["Checker", "is_integer", "read_columns", "read_geometry", "read_masks"]

_DETECTION_KEYS = ("label", "class", "score", "above", "lower", "upper", "centre_mm", "size_mm", "mask")
_OPTIONAL = ("above", "centre_mm", "size_mm", "mask")
_DETECTION_NAMES = frozenset(_DETECTION_KEYS)
EXACT = 2**53  # smaller whole numbers are floats of 64 bits


class Checker:
    """Raises errors that name the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require(self, condition: bool, key: str, rule: str) -> None:
        if not condition:
            raise ValueError(f"{self.path}: {key} {rule}")

    def keys(self, record: Mapping[str, Any], known: Sequence[str], optional: Sequence[str], place: str = "") -> None:
        for key in record:
            if key not in known:  # the hint is slow, and there are many boxes
                self.require(False, f"{place}{key}", f"is an unknown key{did_you_mean(key, known)}")
        for key in known:
            self.require(key in record or key in optional, f"{place}{key}", "is missing")


def read_columns(
    entries: list[Any], ndim: int, classes: list[str], check: Checker
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and labels of detections; the first that is wrong is named."""
    return _plain_columns(entries, ndim, classes) or _checked_columns(entries, ndim, classes, check)


def _plain_columns(
    entries: list[Any], ndim: int, classes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The same as `_checked_columns` in a tenth of its time; None if anything is unusual."""
    try:
        if not all(entry.keys() <= _DETECTION_NAMES for entry in entries):
            return None
        names, labels, scores, lower, upper = (
            [entry[key] for entry in entries] for key in ("class", "label", "score", "lower", "upper")
        )
        numbers = [*scores, *chain.from_iterable(lower), *chain.from_iterable(upper)]
        if not all(isinstance(entry.get("above", True), bool) for entry in entries):
            return None
        if not {*map(type, labels)} <= {int} or not {*map(type, numbers)} <= {int, float}:
            return None
        if not {*map(type, chain(lower, upper))} <= {list}:
            return None
        if not set(map(len, chain(lower, upper))) <= {ndim} or min(labels, default=0) < 0:
            return None
        if names != [classes[label] for label in labels]:
            return None
    except (AttributeError, LookupError, TypeError):
        return None
    values = np.array(numbers, np.float64)
    boxes = values[len(scores) :].reshape(2, -1, ndim).swapaxes(0, 1)
    in_range = ((values[: len(scores)] >= 0) & (values[: len(scores)] <= 1)).all()
    if not (in_range and (np.abs(boxes) < EXACT).all() and (boxes[:, 0] <= boxes[:, 1]).all()):
        return None
    return boxes.astype(np.float32, "C"), values[: len(scores)].astype(np.float32), np.array(labels, np.int64)


def _checked_columns(
    entries: list[Any], ndim: int, classes: list[str], check: Checker
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for position, entry in enumerate(entries):
        _check_entry(entry, f"detections[{position}]", ndim, classes, check)
    return (
        np.array([[e["lower"], e["upper"]] for e in entries], np.float32).reshape(-1, 2, ndim),
        np.array([e["score"] for e in entries], np.float32),
        np.array([e["label"] for e in entries], np.int64),
    )


def _check_entry(entry: Any, place: str, ndim: int, classes: list[str], check: Checker) -> None:
    check.require(isinstance(entry, dict), place, "must be an object")
    check.keys(entry, _DETECTION_KEYS, optional=_OPTIONAL, place=f"{place}.")
    label = entry["label"]
    check.require(is_integer(label) and 0 <= label < len(classes), f"{place}.label", "must index the classes")
    check.require(
        entry["class"] == classes[label],
        f"{place}.class",
        f"must be {classes[label]!r}, as label {label} says",
    )
    check.require(_is_number(entry["score"]) and 0 <= entry["score"] <= 1, f"{place}.score", "must be a number in 0..1")
    check.require(isinstance(entry.get("above", True), bool), f"{place}.above", "must be true or false")
    for key in ("lower", "upper"):
        check.require(_is_vector(entry[key], ndim), f"{place}.{key}", f"must be {ndim} finite numbers")
    ordered = all(low <= up for low, up in zip(entry["lower"], entry["upper"], strict=True))
    check.require(ordered, f"{place}.upper", "must not be below lower")


def read_geometry(value: Any, ndim: int, check: Checker) -> Geometry | None:
    if value is None:
        return None
    check.require(isinstance(value, dict), "geometry", "must be an object or null")
    check.keys(value, ("shape", "spacing", "origin", "direction"), optional=(), place="geometry.")
    for key in ("shape", "spacing", "origin"):
        check.require(_is_vector(value[key], ndim), f"geometry.{key}", f"must be {ndim} finite numbers")
    check.require(all(s > 0 for s in value["spacing"]), "geometry.spacing", "must be positive")
    whole = all(0 < size < 2**31 and size == int(size) for size in value["shape"])
    check.require(whole, "geometry.shape", "must be positive whole numbers")
    rows = value["direction"]
    square = isinstance(rows, list) and len(rows) == ndim and all(_is_vector(row, ndim) for row in rows)
    check.require(square, "geometry.direction", f"must be {ndim} rows of {ndim} finite numbers")
    check.require(
        np.linalg.matrix_rank(np.array(rows, np.float64)) == ndim,
        "geometry.direction",
        "must have rows of different directions",
    )
    return Geometry(
        tuple(map(int, value["shape"])),
        tuple(map(float, value["spacing"])),
        tuple(map(float, value["origin"])),
        tuple(tuple(map(float, row)) for row in rows),
    )


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_vector(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(item) for item in value)


def read_masks(entries: list[dict[str, Any]], ndim: int, check: Checker) -> np.ndarray | None:
    if not any("mask" in entry for entry in entries):
        return None
    masks = []
    for position, entry in enumerate(entries):
        place = f"detections[{position}].mask"
        check.require("mask" in entry, place, "is missing; all detections have masks or none")
        try:
            masks.append(mask_from_text(entry["mask"], ndim))
        except ValueError as error:
            check.require(False, place, str(error))
        check.require(masks[-1].shape == masks[0].shape, place, f"must have the cells of the first, {masks[0].shape}")
    return np.stack(masks)
