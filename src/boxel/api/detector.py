"""A trained detector: images in, detections in their own voxels out."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from boxel.api.run import read_run
from boxel.consolidation import ConsolidateConfig, consolidate
from boxel.inference.config import PredictConfig
from boxel.inference.raw import predict_raw
from boxel.io import read_image
from boxel.models.base import Model
from boxel.nn.nd import channels_last
from boxel.preparation.preprocess import preprocess, to_original
from boxel.training.checkpoints import load_weights, read_ranking
from boxel.training.memory import keep_freed_memory
from boxel.types import Detections, Geometry, Image, RawDetections, Task


class Detector:
    """Models of one task with the way they look at images.

    Attributes:
        classes: class names, indexed by the labels of detections.
        fingerprint: of weights and settings; equal fingerprints give equal detections.
    """

    def __init__(
        self,
        task: Task,
        models: Sequence[Model],
        predict: PredictConfig,
        consolidate: ConsolidateConfig,
        *,
        device: str | torch.device | None = None,
        fingerprint: str = "",
    ) -> None:
        self.task, self.predict_config, self.consolidate_config = task, predict, consolidate
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.models = [model.to(self.device).eval() for model in models]
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, run: Path | str, *, overrides: Sequence[str] = (), device: str | None = None) -> Self:
        """The detector of a run folder; `overrides` change leaves such as `predict.views=identity`.

        Raises:
            ValueError: not a run, not trained yet, or weights of another model.
        """
        run = Path(run)
        keep_freed_memory()
        experiment, task, _ = read_run(run)
        experiment = experiment.override(overrides)
        if experiment.predict.masks and not (experiment.model.gives_masks and task.masks):
            why = "was trained without masks" if experiment.model.gives_masks else "finds boxes only"
            raise ValueError(f"{run}: no masks to be had, its {experiment.model.type_name} {why}; leave out --masks")
        files = [run / "checkpoints" / entry.file for entry in read_ranking(run)][: experiment.predict.checkpoints]
        files = files if files and all(file.exists() for file in files) else [run / "weights.safetensors"]
        digest = hashlib.sha256((experiment.predict.to_json() + experiment.consolidate.to_json()).encode())
        models = []
        for file in files:
            if not file.exists():
                raise ValueError(f"{run}: no weights yet; finish the training with `boxel train` first")
            model = channels_last(experiment.model.build(task), task.ndim)
            load_weights(model, file)
            digest.update(file.read_bytes())
            models.append(model)
        return cls(
            task,
            models,
            experiment.predict,
            experiment.consolidate,
            device=device,
            fingerprint=digest.hexdigest()[:16],
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.task.classes

    def predict(self, image: Image | Path | str | Sequence[Path | str]) -> Detections:
        """Find the objects of one image: an `Image`, a file, a DICOM folder, or one file per channel.

        Returns:
            Detections by falling score, in the voxels of the image as it is in the file.
        """
        image = image if isinstance(image, Image) else read_channels(image)
        raw, shape = self.predict_raw(image)
        return self.finish(raw, shape, image.geometry)

    def predict_raw(self, image: Image) -> tuple[RawDetections, tuple[int, ...]]:
        """Every box of every view, in the voxels of the prepared image, and that image's shape."""
        if len(image.array) != len(self.task.channels):
            raise ValueError(
                f"the image has {len(image.array)} channels, the detector was trained on "
                f"{len(self.task.channels)}: {', '.join(self.task.channels)}"
            )
        if image.array.ndim - 1 != len(self.task.spacing):
            raise ValueError(
                f"the image has {image.array.ndim - 1} axes, "
                f"the detector was trained on images of {len(self.task.spacing)}"
            )
        prepared = preprocess(image, self.task).array
        return self.predict_prepared(prepared), prepared.shape[1:]

    def predict_prepared(self, array: np.ndarray, fill: float | None = None) -> RawDetections:
        fill = float(array.min()) if fill is None else fill
        with torch.inference_mode():
            return predict_raw(self.models, array, fill, self.task, self.predict_config, self.device)

    def finish(self, raw: RawDetections, shape: tuple[int, ...], original: Geometry) -> Detections:
        """Consolidated detections on the original grid, from those in a prepared image of `shape`."""
        found = consolidate(raw, self.consolidate_config, geometry=original)
        return replace(found, boxes=to_original(found.boxes, shape, original.shape))


def load(run: Path | str, *, overrides: Sequence[str] = (), device: str | None = None) -> Detector:
    """The detector of a run folder; see `Detector.load`."""
    return Detector.load(run, overrides=overrides, device=device)


def read_channels(files: Path | str | Sequence[Path | str]) -> Image:
    """One image from one file, or from one file per channel.

    Raises:
        ValueError: a channel on another grid than the first.
    """
    paths = [files] if isinstance(files, (str, Path)) else list(files)
    images = [read_image(Path(path)) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.geometry.shape != images[0].geometry.shape:
            raise ValueError(
                f"{path}: shape {image.geometry.shape} differs from {images[0].geometry.shape} of {paths[0]}; "
                "channels of one image must lie on one grid"
            )
    array = np.concatenate([image.array for image in images])
    if not np.isfinite(array).all():
        raise ValueError(
            f"{paths[0]}: contains NaN or infinite values; replace them, for example by the background value"
        )
    return Image(array, images[0].geometry, images[0].remarks)
