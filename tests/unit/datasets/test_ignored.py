"""Objects that a data set declares as ignored are ignored in the evaluation."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.export.boxel_json import write_detections
from boxel.types import Detections, Geometry
from tests.settings import evaluate_files as evaluate

from .test_pictures import write_coco


def test_a_detection_of_a_crowd_is_no_false_positive(tmp_path, rng):
    crowd = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 8, 8], "iscrowd": 1}
    cell = {"id": 2, "image_id": 7, "category_id": 3, "bbox": [2, 1, 6, 4], "iscrowd": 0}
    (tmp_path / "data").mkdir()
    write_coco(tmp_path / "data", rng, annotations=[crowd, cell])
    boxes = np.array([[[5, 10], [13, 18]], [[1, 2], [5, 8]]], np.float32)
    geometry = Geometry.plain((20, 30))
    predictions = {
        "a": Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1]), geometry),
        "b": Detections.empty(2, geometry),
    }
    for case, detections in predictions.items():
        write_detections(tmp_path / "predictions" / f"{case}.json", detections, case, ("clump", "cell"))
    metrics = evaluate(tmp_path / "predictions", tmp_path / "data", num_resamples=0).metrics
    assert metrics["num_objects"] == 1
    assert metrics["num_ignored_detections"] == 1
    assert metrics["AP@0.50"] == 1.0


@pytest.mark.parametrize("option", ["ignore", "objects"])
def test_crowds_of_coco_are_said_once_per_file_and_can_be_read_as_objects(tmp_path, rng, option):
    mask = {"image_id": 7, "category_id": 3, "segmentation": {"counts": [21, 3, 576], "size": [20, 30]}, "iscrowd": 1}
    cell = {"id": 3, "image_id": 7, "category_id": 3, "bbox": [2, 8, 6, 4], "iscrowd": 0}
    write_coco(tmp_path, rng, annotations=[{"id": 1, **mask}, {"id": 2, **mask, "image_id": 8}, cell])
    problems = []
    dataset = open_dataset(tmp_path, problems.append, options=[f"crowd={option}"])
    loaded = read_case(dataset["a"], dataset)
    as_objects = option == "objects"
    assert (len(loaded.instances), len(loaded.ignored)) == ((2, 0) if as_objects else (1, 1))
    texts = [str(one) for one in problems if "iscrowd" in one.problem]
    assert len(texts) == (0 if as_objects else 1)
    assert all("2 objects have iscrowd=1 (of 3)" in text and "crowd=objects" in text for text in texts)
