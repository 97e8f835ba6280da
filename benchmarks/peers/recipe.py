"""A recipe of Boxel with its defaults, within a CPU budget: the one driver that runs in Boxel's own environment."""

import time
from types import SimpleNamespace

import numpy as np
import torch
from exchange import Boxes, Case, Job, run

import boxel
import boxel.training.loop
from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.types import Geometry, Image, Instances

RESERVE = 0.06  # of the budget, for the validation of the last checkpoint


def fit(job: Job):
    torch.set_num_threads(1)
    data, root = job.data, job.scratch / "data"
    for part in ("train", "val"):
        for case in data.part(part):
            write(job, case)
    write_dataset(root, "exchanged", data.ndim, list(data.classes), [f"channel {i}" for i in range(data.channels)])
    write_splits(root, [{part: [case.id for case in data.part(part)] for part in ("train", "val")}])
    store = boxel.prepare(root, job.scratch / "work", recipe=job.variant, workers=0)
    # The limit of a training counts wall time, which other processes stretch; here it counts this process's.
    boxel.training.loop.time = SimpleNamespace(perf_counter=time.process_time)
    seconds = (1 - RESERVE) * job.clock.budget - job.clock.spent()
    limits = [f"seed={job.seed}", "train.steps=1000000", f"train.max_seconds={seconds:.1f}", "train.num_workers=0"]
    trained = boxel.train(store.path, job.scratch / "run", overrides=limits)
    detector = boxel.load(trained)

    def predict(image: np.ndarray) -> Boxes:
        found = detector.predict(as_image(image, job))
        return Boxes(found.boxes, found.scores, found.labels)

    return predict


def as_image(array: np.ndarray, job: Job) -> Image:
    channels = np.moveaxis(array, -1, 0) if array.ndim > job.data.ndim else array[None]
    return Image(channels, Geometry.plain(channels.shape[1:], job.data.spacing))


def write(job: Job, case: Case) -> None:
    """A case in Boxel's own layout."""
    image = as_image(case.image(), job)
    suffix = ".png" if job.data.ndim == 2 else ".nii.gz"
    ids = np.arange(1, len(case.labels) + 1)
    if case.label_map_file:
        labels = dict(zip(ids.tolist(), case.labels.tolist(), strict=True))
        write_case(job.scratch / "data", case.id, image, case.label_map(), labels, suffix=suffix)
        return
    boxes = Instances(case.boxes, case.labels, ids, np.zeros(len(ids), bool))
    write_case(job.scratch / "data", case.id, image, None, {}, suffix=suffix, boxes=boxes)


if __name__ == "__main__":
    run(fit, ("torch",))
