"""The metrics of PI-CAI against those that picai_eval computed on the same random maps (see `picai_maps`)."""

import json

import cc3d
import numpy as np
import pytest

import boxel
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.masks import LabelMap, overlap_masks
from boxel.evaluation.picai import evaluate_picai
from boxel.io import write_image, write_label_map
from boxel.types import Detections, Geometry, Image, Instances
from tests.golden.picai_maps import RATES, RECORDED, SEEDS, random_set

GOLDEN = json.loads(RECORDED.read_text())["sets"]
CONFIG = boxel.EvaluateConfig(protocol="picai", num_resamples=0)


def parts_of(array):
    parts = cc3d.connected_components((array > 0).astype(np.uint8), connectivity=8 if array.ndim == 2 else 26)
    count = int(parts.max())
    boxes = [[np.argwhere(parts == k).min(0), np.argwhere(parts == k).max(0) + 1] for k in range(1, count + 1)]
    return parts, np.array(boxes, np.float64).reshape(count, 2, array.ndim), np.arange(1, count + 1)


def evaluate_maps(cases):
    detections, objects, masks = {}, {}, {}
    for number, (scores, lesions) in enumerate(cases):
        parts, boxes, ids = parts_of(scores)
        values = np.array([scores[parts == k].max() for k in ids], np.float64)
        detections[str(number)] = Detections(boxes, values, np.zeros(len(ids), int))
        lesion_parts, lesion_boxes, lesion_ids = parts_of(lesions)
        count = len(lesion_ids)
        objects[str(number)] = Instances(lesion_boxes, np.zeros(count, int), lesion_ids, np.ones(count, bool))
        masks[str(number)] = overlap_masks(LabelMap(parts, ids), LabelMap(lesion_parts, lesion_ids))
    criterion = Criterion("mask_iou", masks=masks)
    return evaluate_picai(detections, objects, classes=("lesion",), criterion=criterion, config=CONFIG).metrics


def check(metrics, golden):
    got = [metrics["AP"], metrics["AUROC"], *(metrics[f"sensitivity/fp={rate:g}"] for rate in RATES)]
    assert got == pytest.approx([golden["AP"], golden["AUROC"], *golden["sensitivity"]], abs=1e-6)
    assert metrics["num_objects"] == golden["lesions"]
    assert metrics["score"] == pytest.approx((golden["AP"] + golden["AUROC"]) / 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_maps_get_the_metrics_of_picai_eval(seed):
    check(evaluate_maps(random_set(seed)), GOLDEN[str(seed)])


def test_the_maps_have_every_difficulty():
    cases = [case for seed in SEEDS for case in random_set(seed)]
    assert {lesions.ndim for _, lesions in cases} == {2, 3}
    assert any(not scores.any() for scores, _ in cases)
    assert any(not lesions.any() for _, lesions in cases)
    assert max(scores.max() for scores, _ in cases) > 1


@pytest.mark.parametrize("seed", [0, 2, 4])
def test_files_get_the_metrics_of_picai_eval(seed, tmp_path):
    """Detection maps as picai_eval reads them, 3D, with scores above 1 in one of the sets."""
    for number, (scores, lesions) in enumerate(random_set(seed)):
        geometry, case = Geometry.plain(scores.shape), f"case_{number}"
        for folder in ("images", "labels", "maps"):
            (tmp_path / folder).mkdir(exist_ok=True)
        write_image(tmp_path / "images" / f"{case}.nii.gz", Image(np.zeros((1, *scores.shape), np.float32), geometry))
        write_label_map(tmp_path / "labels" / f"{case}.nii.gz", lesions.astype(np.uint8), geometry)
        write_image(tmp_path / "maps" / f"{case}_detection_map.nii.gz", Image(scores[None], geometry))
    data = boxel.open_dataset(tmp_path, format="pairs", options=["values=classes", "classes=lesion"])
    check(boxel.evaluate(tmp_path / "maps", data, tmp_path / "out", config=CONFIG).metrics, GOLDEN[str(seed)])
    config = CONFIG.model_copy(update={"num_resamples": 20})
    result = boxel.compare(tmp_path / "maps", tmp_path / "maps", data, config=config)["metrics"]["AP"]
    assert (result["a"], result["b"]) == pytest.approx((GOLDEN[str(seed)]["AP"],) * 2)
    assert result["difference"] == 0
