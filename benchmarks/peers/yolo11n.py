"""Ultralytics' YOLO11n from random weights, within a CPU budget: its own training by time, augmentation and best epoch.

What differs from its defaults, so that minutes of one core are of use: images of at most 320 pixels, batches of 8, each
of which is an optimisation step, and mosaics in all but the last tenth of the epochs, as with its usual 100.
"""

import os
import shutil
import sys
import time
from types import SimpleNamespace

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": sys.prefix}  # before the import

import numpy as np
import torch
import ultralytics.engine.trainer
import yaml
from exchange import Boxes, Job, run
from PIL import Image
from ultralytics import YOLO

LONGEST = 320  # pixels; an image is not enlarged
BATCH = 8
RESERVE = 0.06  # of the budget, for the validation of the best epoch


def fit(job: Job):
    torch.set_num_threads(1)
    longest = max(max(Image.open(case.image_file).size) for case in job.data.part("train"))
    size = min(LONGEST, -(-longest // 32) * 32)
    data = written(job)
    # A training by time counts wall time, which other processes stretch; here it counts this process's.
    ultralytics.engine.trainer.time = SimpleNamespace(time=time.process_time)
    model = YOLO("yolo11n.yaml")
    model.add_callback("on_train_start", lambda trainer: limit(trainer, job))
    model.add_callback("on_fit_epoch_end", lambda trainer: close_mosaic(trainer, job))
    model.train(
        data=data, pretrained=False, imgsz=size, batch=BATCH, nbs=BATCH, time=job.clock.budget / 3600, patience=0,
        workers=0, device="cpu", seed=job.seed, plots=False, project=str(job.scratch), name="run", exist_ok=True,
        cache="ram", amp=False,
    )  # fmt: skip
    best = YOLO(job.scratch / "run" / "weights" / "best.pt")

    def predict(image: np.ndarray) -> Boxes:
        colours = coloured(image)[..., ::-1]
        [found] = best.predict(colours, imgsz=size, conf=0.001, max_det=300, device="cpu", verbose=False)
        corners = found.boxes.xyxy.numpy().reshape(-1, 2, 2)[..., ::-1]
        return Boxes(corners, found.boxes.conf.numpy(), found.boxes.cls.numpy().astype(int))

    return predict


def limit(trainer, job: Job) -> None:
    """What is left after its start, of which it counts no second."""
    trainer.args.time = max(1.0, (1 - RESERVE) * job.clock.budget - job.clock.spent()) / 3600


def close_mosaic(trainer, job: Job) -> None:
    trainer.args.close_mosaic = round(0.1 * trainer.epochs)
    job.remarks["epochs"] = trainer.epoch + 1


def coloured(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def written(job: Job) -> str:
    """Write the images and boxes in the tool's own layout; its file."""
    root = job.scratch / "yolo"
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / part).mkdir(parents=True, exist_ok=True)
        for number, case in enumerate(job.data.part(part)):
            shutil.copyfile(case.image_file, root / "images" / part / f"{number}.png")
            shape = Image.open(case.image_file).size[::-1]
            centres, sizes = case.boxes.mean(1) / shape, (case.boxes[:, 1] - case.boxes[:, 0]) / shape
            rows = [
                f"{label} {x} {y} {w} {h}" for label, (y, x), (h, w) in zip(case.labels, centres, sizes, strict=True)
            ]
            (root / "labels" / part / f"{number}.txt").write_text("\n".join(rows))
    names = dict(enumerate(job.data.classes))
    content = {"path": str(root.resolve()), "train": "images/train", "val": "images/val", "names": names}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return str(root / "data.yaml")


if __name__ == "__main__":
    run(fit, ("ultralytics-opencv-headless", "torch"))
