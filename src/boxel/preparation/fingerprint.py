"""The fingerprint of a data set: properties of its training cases, on which the rules of the plan are based."""

import json
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from boxel.config import Config
from boxel.ranges import Rank


class Intensity(Config):
    """Statistics of the values of one channel, pooled over cases with equal weight."""

    channel: str
    mean: float
    std: NonNegativeFloat
    minimum: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    maximum: float


class ObjectStats(Config):
    """Objects of one class: their number, the number of their cases, and percentiles of their extents per axis."""

    count: NonNegativeInt
    cases: NonNegativeInt
    size_voxels: dict[str, tuple[NonNegativeFloat, ...]] = {}
    size_mm: dict[str, tuple[NonNegativeFloat, ...]] = {}


class CaseRecord(Config):
    """One case: its grid, the label and extent (voxels) of each object, and the number of objects with a mask.

    The orientation, modality and body part, and quantiles of the values of each channel, are empty where not known; see
    `boxel.preparation.training_images`.
    """

    id: str
    shape: tuple[PositiveInt, ...]
    spacing: tuple[PositiveFloat, ...]
    labels: tuple[NonNegativeInt, ...] = ()
    sizes: tuple[tuple[NonNegativeFloat, ...], ...] = ()
    masks: NonNegativeInt = 0
    orientation: str = ""
    modality: str = ""
    body_part: str = ""
    intensities: tuple[tuple[float, ...], ...] = ()


class Fingerprint(Config):
    """Properties of the training cases of a data set (`fingerprint.json`).

    Attributes:
        ndim: spatial axes of the images.
        intensities: statistics per channel.
        intensities_of: whether they were measured on objects with their surroundings, or on whole images because there
            are no objects.
        objects: statistics per class name.
        objects_per_image: least, median and most objects of an image, and the number of images without objects.
        cases: one record per measured case.
    """

    name: str
    ndim: Rank
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    intensities: tuple[Intensity, ...]
    intensities_of: Literal["objects", "images"]
    objects: dict[str, ObjectStats]
    objects_per_image: dict[str, NonNegativeFloat]
    cases: tuple[CaseRecord, ...]

    def to_json(self) -> str:
        """Indented JSON with one line per case."""
        values = self.model_dump(mode="json")
        rows = ",\n    ".join(json.dumps(record) for record in values.pop("cases"))
        return f'{json.dumps(values, indent=2)[:-2]},\n  "cases": [\n    {rows}\n  ]\n}}\n'
