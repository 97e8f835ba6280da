"""StarDist from random weights, in 2D and 3D, within a CPU budget: the settings and augmentation of its examples.

Its learning rate is halved when the validation has not improved for a tenth of the training, its best weights are kept
and its thresholds are optimised, as it does by default; boxes are those of its instances. Its threshold of probability
is for instances; the ranking that average precision asks for goes on to 0.1.
"""

import numpy as np
import tensorflow as tf
from csbdeep.utils import normalize
from exchange import Boxes, Case, Job, run
from stardist import Rays_GoldenSpiral, calculate_extents, fill_label_holes
from stardist.matching import relabel_sequential
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D
from tensorflow import keras

STEPS = 25  # between validations
THRESHOLDS = 0.15  # of the budget, for the thresholds
LOWEST = 0.1


def fit(job: Job):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(job.seed)
    random = np.random.default_rng(job.seed)
    train, val = ([learned(case, job) for case in job.data.part(part)] for part in ("train", "val"))
    config = configured(job, [labels for _, labels, _ in (*train, *val)])
    model = (StarDist2D if job.data.ndim == 2 else StarDist3D)(config, name="model", basedir=str(job.scratch))
    model.prepare_for_training()
    budget = Budget(job, model.callbacks)
    model.callbacks.append(budget)
    images, maps, classes = (list(column) for column in zip(*train, strict=True))
    several = len(job.data.classes) > 1
    validation = tuple(list(column) for column in zip(*val, strict=True))[: 3 if several else 2]
    model.train(
        images, maps, classes=classes if several else "auto", validation_data=validation,
        augmenter=lambda image, labels: augmented(image, labels, random),
        seed=job.seed, epochs=10_000, steps_per_epoch=STEPS,
    )  # fmt: skip
    model.optimize_thresholds([image for image, _, _ in val][:10], [labels for _, labels, _ in val][:10])

    def predict(image: np.ndarray) -> Boxes:
        labels, found = model.predict_instances(normalized(image, job), prob_thresh=LOWEST)
        boxes = {number: box for number, box in enumerate(boxes_of(labels), start=1) if box is not None}
        rows = np.array(list(boxes), int) - 1
        corners = np.array(list(boxes.values()), float).reshape(-1, 2, job.data.ndim)
        kinds = np.asarray(found["class_id"]) - 1 if several else np.zeros(len(found["prob"]), int)
        return Boxes(corners, np.clip(np.asarray(found["prob"])[rows], 0, 1), kinds[rows])

    return predict


class Budget(keras.callbacks.Callback):
    """Ends the training with the budget; the learning rate waits for a tenth of the epochs that fit."""

    def __init__(self, job: Job, others: list) -> None:
        super().__init__()
        self.job, self.limit, self.start = job, (1 - THRESHOLDS) * job.clock.budget, job.clock.spent()
        self.plateau = [one for one in others if hasattr(one, "patience")]

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.job.clock.spent() > self.limit:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None) -> None:
        spent = self.job.clock.spent()
        epochs = (epoch + 1) * (self.limit - self.start) / (spent - self.start)
        for one in self.plateau:
            one.patience = max(1, round(0.1 * epochs))
        self.job.remarks["epochs"] = epoch + 1


def normalized(image: np.ndarray, job: Job) -> np.ndarray:
    return normalize(image, 1, 99.8, axis=tuple(range(job.data.ndim)))


def learned(case: Case, job: Job) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """An image, its label map, and the class of each label, from 1."""
    labels = fill_label_holes(case.label_map())
    labels, _, inverse = relabel_sequential(labels)
    classes = {new: int(case.labels[int(inverse[new]) - 1]) + 1 for new in range(1, int(labels.max()) + 1)}
    return normalized(case.image(), job), labels, classes


def configured(job: Job, label_maps: list[np.ndarray]):
    channels = job.data.channels
    classes = len(job.data.classes) if len(job.data.classes) > 1 else None
    smallest = np.min([one.shape for one in label_maps], axis=0)
    plain = {"n_channel_in": channels, "n_classes": classes, "train_tensorboard": False}
    if job.data.ndim == 2:
        patch = tuple(int(min(256, length // 16 * 16)) for length in smallest)
        return Config2D(n_rays=32, grid=(2, 2), train_patch_size=patch, **plain)
    extents = np.median([calculate_extents(one) for one in label_maps], axis=0)
    anisotropy = tuple(float(one) for one in extents.max() / extents)
    grid = tuple(1 if one > 1.5 else 2 for one in anisotropy)
    patch = tuple(int(min(most, length // 8 * 8)) for most, length in zip((48, 96, 96), smallest, strict=True))
    return Config3D(
        rays=Rays_GoldenSpiral(96, anisotropy=anisotropy), grid=grid, anisotropy=anisotropy, train_patch_size=patch,
        train_batch_size=2, **plain,
    )  # fmt: skip


def augmented(image: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirrored and, in the plane, turned; brighter or darker, with noise."""
    for axis in range(labels.ndim):
        if random.random() < 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    if labels.shape[-1] == labels.shape[-2] and random.random() < 0.5:
        axes = (labels.ndim - 2, labels.ndim - 1)
        image, labels = np.swapaxes(image, *axes), np.swapaxes(labels, *axes)
    image = image * random.uniform(0.6, 2) + random.uniform(-0.2, 0.2)
    return image + 0.02 * random.random() * random.normal(size=image.shape), labels


def boxes_of(labels: np.ndarray) -> list:
    """The box of each label from 1, None where no voxel shows it."""
    from scipy.ndimage import find_objects

    return [
        None if found is None else ([one.start for one in found], [one.stop for one in found])
        for found in find_objects(labels)
    ]


if __name__ == "__main__":
    run(fit, ("stardist", "tensorflow"))
