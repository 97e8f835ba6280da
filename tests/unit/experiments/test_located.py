"""The mean IoU of located boxes, by hand."""

import numpy as np
import pytest

from boxel.api.run import RunSplit
from boxel.consolidation import ConsolidateConfig, RawPrediction, write_raw
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.experiments import cell
from boxel.experiments.located import located_iou
from boxel.types import Geometry, Image, RawDetections


def test_slices_count_by_their_best_box_and_as_0_where_nothing_is_located(tmp_path):
    shape = (4, 10, 10)
    label_map = np.zeros(shape, np.uint8)
    label_map[0, 2:6, 2:6] = 1  # located exactly, and worse by a box of a lower score
    label_map[1, 2:6, 2:6] = 1  # half of it located
    label_map[2, 2:6, 2:6] = 1  # nothing located
    image = Image(np.zeros((1, *shape), np.float32), Geometry.plain(shape))
    for case in "ab":  # a data set needs two
        write_case(tmp_path / "data", case, image, label_map, {1: 0})
    write_dataset(tmp_path / "data", "slices", 3, ["organ"], ["CT"])
    dataset = open_dataset(tmp_path / "data")
    # In prepared images of half the resolution in the plane.
    boxes = [[[0, 1, 1], [1, 3, 3]], [[0, 0, 0], [1, 5, 5]], [[1, 1, 1], [2, 3, 2]], [[3, 1, 1], [4, 3, 3]]]
    number = len(boxes)
    raw = RawDetections(
        boxes=np.array(boxes, np.float32), scores=np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        labels=np.zeros(number, np.int64), views=np.zeros(number, np.int64), tiles=np.zeros(number, np.int64),
        weights=np.ones(number, np.float32), coverage=np.ones(number, np.float32), slice_axes=1,
    )  # fmt: skip
    prediction = RawPrediction("a", raw, (4, 5, 5), image.geometry, ("organ",), ConsolidateConfig())
    write_raw(tmp_path / "predictions" / "raw" / "a.npz", prediction)
    assert located_iou(tmp_path / "predictions", dataset) == pytest.approx((1 + 0.5 + 0) / 3)


def test_training_cases_are_drawn_once_for_all_cells_of_a_fold(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(cell, "predict", lambda *_, cases, **settings: drawn.append((cases, settings)))
    ids = tuple(f"case{number:02d}" for number in range(50))
    for name, train in {"a": ids, "b": ids[::-1], "few": ids[:3]}.items():
        RunSplit(train=train, val=(), work="work", fold=0).save(tmp_path / name / "run" / "split.json")
        cell.predict_training(tmp_path / name, None, seed=0, number=20)
    (a, settings), (b, _), (few, _) = drawn
    assert settings == {"part": "train", "overrides": ["predict.segmentation=false"]}
    assert a == b
    assert len(set(a)) == 20
    assert set(few) == set(ids[:3])
