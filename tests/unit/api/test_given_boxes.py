"""Boxes of another detector for the second stage: they must lie on the grid of the image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boxel.api.given_boxes import GivenBoxes
from boxel.types import Detections, Geometry


@pytest.mark.parametrize("changed", ["shape", "spacing", "origin", "direction"])
def test_boxes_on_another_grid_are_refused(ndim, changed):
    grid = Geometry.plain((8,) * ndim, (2.0,) * ndim)
    other = {
        "shape": (9,) * ndim,
        "spacing": (2.0,) * (ndim - 1) + (3.0,),
        "origin": (5.0,) * ndim,
        "direction": tuple(map(tuple, (-np.eye(ndim)).tolist())),
    }
    boxes = replace(Detections.empty(ndim), geometry=grid)
    given = GivenBoxes(boxes, ("x",), Path("boxes.csv"))
    assert given.on(grid) is boxes.boxes
    with pytest.raises(ValueError, match=rf"boxes.csv: boxes on a grid of {changed} .* give predictions of these"):
        given.on(replace(grid, **{changed: other[changed]}))


def test_boxes_of_another_rank_are_refused():
    with pytest.raises(ValueError, match="boxes on a grid of 2 axes but the image has 3"):
        GivenBoxes(Detections.empty(2), ("x",), Path("boxes.csv")).on(Geometry.plain((8, 8, 8)))
