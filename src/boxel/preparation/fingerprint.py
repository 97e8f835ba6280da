"""What a data set looks like: facts about its training cases, before any rule decides anything."""

import json
from typing import Literal

from boxel.config import Config


class Intensity(Config):
    """One channel's values, pooled over cases of equal weight."""

    channel: str
    mean: float
    std: float
    minimum: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    maximum: float


class ObjectStats(Config):
    """Objects of one class: how many, in how many cases, and percentiles of their extents per axis."""

    count: int
    cases: int
    size_voxels: dict[str, tuple[float, ...]] = {}
    size_mm: dict[str, tuple[float, ...]] = {}


class CaseRecord(Config):
    """One case: its grid, label and extent (voxels) of each object, and how many of them have a mask."""

    id: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    labels: tuple[int, ...] = ()
    sizes: tuple[tuple[float, ...], ...] = ()
    masks: int = 0


class Fingerprint(Config):
    """Facts about the training cases of a data set (`fingerprint.json`).

    Attributes:
        ndim: spatial axes of the images.
        intensities: per channel.
        intensities_of: what they were measured on: objects with their surroundings, or whole images where
            none has any.
        objects: per class name.
        objects_per_image: least, median, most and number of images without any.
        cases: one record per measured case.
    """

    name: str
    ndim: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    intensities: tuple[Intensity, ...]
    intensities_of: Literal["objects", "images"]
    objects: dict[str, ObjectStats]
    objects_per_image: dict[str, float]
    cases: tuple[CaseRecord, ...]

    def to_json(self) -> str:
        """Indented, but one line per case."""
        values = self.model_dump(mode="json")
        rows = ",\n    ".join(json.dumps(record) for record in values.pop("cases"))
        return f'{json.dumps(values, indent=2)[:-2]},\n  "cases": [\n    {rows}\n  ]\n}}\n'
