"""`boxel predict --boxes`: the predictions of another detector, segmented by the second stage of a run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case
from boxel.export import DatasetInfo, ImageGeometries, recognise
from boxel.io.grids import same_grid
from boxel.types import Detections, Geometry

__all__ = ["GivenBoxes", "read_given"]


@dataclass(frozen=True)
class GivenBoxes:
    """The detections of one case, their classes, and where they were read."""

    detections: Detections
    classes: tuple[str, ...]
    source: Path

    @property
    def digest(self) -> str:
        """Equal for equal detections: boxes, scores and classes."""
        own = self.detections
        parts = [np.ascontiguousarray(values).tobytes() for values in (own.boxes, own.scores, own.labels)]
        return hashlib.sha256(b"".join([*parts, repr(self.classes).encode()])).hexdigest()[:16]

    def on(self, geometry: Geometry) -> np.ndarray:
        """The boxes, if they are on this grid.

        Raises:
            ValueError: they are on another one.
        """
        own, axes = self.detections.geometry, self.detections.boxes.shape[2]
        difference = "" if axes == len(geometry.shape) else f"{axes} axes but {{}} has {len(geometry.shape)}"
        if own:
            difference = same_grid(own, geometry)
        if difference:
            raise ValueError(
                f"{self.source}: boxes on a grid of {difference.format('the image')}; give predictions of these images"
            )
        return self.detections.boxes


def read_given(path: Path, cases: Mapping[str, Case], classes: tuple[str, ...]) -> dict[str, GivenBoxes]:
    """The predictions in `path` of each case.

    Args:
        classes: of the run, for formats that name none.

    Raises:
        ValueError: not predictions, or none of a case.
    """
    geometries = ImageGeometries({name: case.channels[0] for name, case in cases.items() if case.channels})
    predictions = {one.case: one for one in recognise(path).reader(path, DatasetInfo(classes, geometries, ()))}
    if missing := sorted(cases.keys() - predictions.keys()):
        raise ValueError(
            f"{path}: no prediction of case {missing[0]!r}; predict all images first, also those without objects"
        )
    return {name: GivenBoxes(predictions[name].detections, predictions[name].classes, path) for name in cases}
