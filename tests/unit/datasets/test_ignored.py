"""Objects that a data set declares as ignored are ignored in the evaluation."""

import numpy as np

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
