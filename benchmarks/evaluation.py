"""How long metrics take: COCO's twelve next to pycocotools, intervals, and the memory of a large data set.

python benchmarks/evaluation.py            seconds, median of five, of 1,000 images with 10 detections each
python benchmarks/evaluation.py --memory   peak memory of the COCO metrics of 100,000 images
"""

import contextlib
import io
import resource
import statistics
import sys
import time

import numpy as np

from boxel.evaluation import EvaluateConfig, evaluate
from boxel.evaluation.coco import evaluate_coco
from boxel.types import Detections, Instances

CLASSES = ("a", "b", "c")
NO_INTERVALS = EvaluateConfig(protocol="coco", num_resamples=0)


def random_images(count: int, detections: int = 10, objects: int = 5, seed: int = 0) -> tuple[dict, dict]:
    """Half of the detections near an object; sizes in all of COCO's ranges."""
    rng = np.random.default_rng(seed)
    ground_truth, predictions = {}, {}
    for image in range(count):
        size = rng.choice([16.0, 50.0, 120.0], (objects, 1)) * rng.uniform(0.8, 1.2, (objects, 2))
        lower = rng.uniform(0, 300, (objects, 2))
        boxes = np.stack([lower, lower + size], 1).astype(np.float32)
        labels = rng.integers(0, len(CLASSES), objects)
        ground_truth[str(image)] = Instances(boxes, labels, np.arange(objects), np.zeros(objects, bool))
        near = rng.integers(0, objects, detections)
        moved = boxes[near] + rng.normal(0, 4, (detections, 2, 2)) + (np.arange(detections) % 2 * 200)[:, None, None]
        scores = rng.random(detections)
        predictions[str(image)] = Detections(np.sort(moved, axis=1).astype(np.float32), scores, labels[near])
    return predictions, ground_truth


def as_coco(predictions: dict, ground_truth: dict) -> tuple[dict, list]:
    def xywh(box: np.ndarray) -> list[float]:
        return [*map(float, box[0][::-1]), *map(float, (box[1] - box[0])[::-1])]

    annotations = [
        {"id": 1 + 1000 * int(image) + k, "image_id": int(image), "category_id": int(label), "bbox": xywh(box),
         "area": xywh(box)[2] * xywh(box)[3], "iscrowd": 0}
        for image, of in ground_truth.items() for k, (box, label) in enumerate(zip(of.boxes, of.labels, strict=True))
    ]  # fmt: skip
    results = [
        {"image_id": int(image), "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for image, of in predictions.items() for box, label, score in zip(of.boxes, of.labels, of.scores, strict=True)
    ]  # fmt: skip
    images, categories = [{"id": int(image)} for image in ground_truth], [{"id": k} for k in range(len(CLASSES))]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def pycocotools_metrics(ground_truth: object, results: object) -> None:
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(ground_truth, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()


def seconds(*functions) -> list[float]:
    """The median of five of each, taking turns."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(5):
        for row, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            row.append(time.perf_counter() - start)
    return [statistics.median(row) for row in times]


def compare() -> None:
    from pycocotools.coco import COCO

    predictions, ground_truth = random_images(1000)
    dataset, results = as_coco(predictions, ground_truth)
    silence = contextlib.redirect_stdout(io.StringIO())
    with silence:
        coco = COCO()
        coco.dataset = dataset
        coco.createIndex()
        detections = coco.loadRes(results)  # reading is not timed, on either side
        ours, theirs = seconds(
            lambda: evaluate_coco(predictions, ground_truth, classes=CLASSES, config=NO_INTERVALS),
            lambda: pycocotools_metrics(coco, detections),
        )
    print(f"12 COCO metrics, 1,000 images x 10 detections: boxel {ours:.3f} s, pycocotools {theirs:.3f} s, "
          f"{theirs / ours:.1f} times")  # fmt: skip
    for resamples in (0, 1000):
        config = EvaluateConfig(num_resamples=resamples)
        (each,) = seconds(lambda config=config: evaluate(predictions, ground_truth, classes=CLASSES, config=config))
        print(f"every metric of boxel evaluate, {resamples} resamples: {each:.2f} s")


def measure_memory() -> None:
    predictions, ground_truth = random_images(100_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start = time.perf_counter()
    evaluate_coco(predictions, ground_truth, classes=CLASSES, config=NO_INTERVALS)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"100,000 images: {took:.1f} s, peak memory {after:.2f} GB, of it the data {before:.2f} GB")


if __name__ == "__main__":
    measure_memory() if "--memory" in sys.argv else compare()
