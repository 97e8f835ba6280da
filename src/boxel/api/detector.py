"""A trained detector: images in, detections in their own voxels out."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from boxel.api.ensemble import load_models, read_members
from boxel.api.run_points import points_without, read_points, read_training_images
from boxel.consolidation import ConsolidateConfig, consolidate
from boxel.consolidation.views import RecordedViews, view_axes
from boxel.inference.config import PredictConfig
from boxel.inference.given_boxes import segment_given
from boxel.inference.raw import predict_raw
from boxel.inference.segmentation import Painter
from boxel.io.channels import fit_image, open_channels
from boxel.models.base import Model
from boxel.operating_points import OTHERWISE, OperatingPoints, Shown
from boxel.preparation.prepared import Prepared
from boxel.preparation.preprocess import check_grid
from boxel.preparation.training_images import TrainingImages, describe
from boxel.slabs import Voxels
from boxel.training.devices import device_named
from boxel.training.memory import keep_freed_memory
from boxel.types import Detections, Geometry, Image, RawDetections, Task
from boxel.wording import counted


class Detector:
    """A trained detector: models of one task, and the settings of prediction and consolidation.

    Attributes:
        classes: class names, indexed by the labels of detections.
        segmentation_classes: class names of the segmentation, without background: value 1 + k of a label map is
            `segmentation_classes[k]`. Empty if the models do not segment, or were trained without masks.
        fingerprint: of weights and settings; equal fingerprints give equal detections.
        weights: fingerprint of the weights, and of the plug-ins that the models need.
        checkpoints: number of models of each run, in their order.
        operating_points: score thresholds from the validation cases of the (first) run, the one that is applied, and
            the calibration of the scores; None if none were measured.
        training_images: what the images were like that the (first) run was trained on; None if that was not recorded.
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
        weights: str = "",
        segmentation_classes: Sequence[str] = (),
        checkpoints: Sequence[int] = (),
        operating_points: OperatingPoints | None = None,
        training_images: TrainingImages | None = None,
    ) -> None:
        self.task, self.predict_config, self.consolidate_config = task, predict, consolidate
        self.device = device if isinstance(device, torch.device) else device_named(device)
        self.models = [model.to(self.device).eval() for model in models]
        self.fingerprint, self.weights = fingerprint, weights
        self.segmentation_classes = tuple(segmentation_classes)
        self.checkpoints = tuple(checkpoints) or (len(self.models),)
        self.operating_points, self.training_images = operating_points, training_images

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        ensemble: Sequence[Path | str] = (),
        overrides: Sequence[str] = (),
        device: str | None = None,
        trust: bool = False,
        shown: Shown = Shown(),  # noqa: B008 (frozen)
        measured: bool = True,
    ) -> Self:
        """Load the detector of a run folder; `overrides` change settings such as `predict.views=identity`.

        Args:
            run: The folder.
            ensemble: Folders of further runs of the same task, such as the other folds: the checkpoints of all runs
                vote. The settings of prediction and consolidation are those of the first run.
            overrides: Settings to change, each `"key=value"`.
            device: Where to run: `auto`, the GPU if there is one, or `cpu`, `cuda`, `mps`.
            trust: Import the plug-in files in the folder, where the run uses some; they are code.
            shown: The operating point to apply, by default that of the highest F1.
            measured: Whether to take the operating points of the run, and its calibration; otherwise there are none.

        Raises:
            ValueError: a folder is not a run, is not trained yet, has weights of another model, needs a plug-in, is a
                run of another task, or has a model that cannot give the masks or the segmentation asked for; the run
                has no such operating point.
        """
        keep_freed_memory()
        members = read_members([run, *ensemble], overrides, trust)
        models, checkpoints, fingerprint, weights = load_models(members)
        experiment, segmentation = members[0].experiment, {member.segmentation_classes for member in members}
        path, task = members[0].run, members[0].task
        stored = read_points(path, task.classes) if measured else None
        if not stored:
            points = points_without(path, task.classes, shown)
        else:
            points = stored.chosen(shown, calibrate=experiment.predict.calibrate)
            fingerprint = hashlib.sha256((fingerprint + points.to_json()).encode()).hexdigest()[:16]
            if changes := stored.changes(weights, experiment):
                logging.getLogger("boxel").warning(f"{path}: {OTHERWISE} (now others: {', '.join(changes)})")
        return cls(
            task,
            models,
            experiment.predict,
            experiment.consolidate,
            device=device,
            fingerprint=fingerprint,
            weights=weights,
            segmentation_classes=segmentation.pop() if len(segmentation) == 1 else (),
            checkpoints=checkpoints,
            operating_points=points,
            training_images=read_training_images(path),
        )

    @property
    def views(self) -> RecordedViews:
        """The mirrored views, scales and checkpoints that every image is predicted in."""
        mirrors = tuple(view_axes(self.predict_config.views, self.task.ndim))
        return RecordedViews(mirrors=mirrors, checkpoints=self.checkpoints, scales=self.predict_config.scales)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.task.classes

    def predict(self, image: Image | Path | str | Sequence[Path | str]) -> Detections:
        """Detect the objects of one image: an `Image`, a file, a DICOM file or folder, or one file per channel.

        Returns:
            Detections by descending score, in the voxels of the image file.

        Raises:
            ValueError: the image cannot be read or does not fit the detector; its voxels are NaN or infinite; its voxel
                size is impossible, or makes it too large for the memory.
        """
        opened = self._as_image(image)
        raw, _, shape = self.predict_raw(opened)
        return self.finish(raw, shape, opened.geometry)

    def segment(self, image: Image | Path | str | Sequence[Path | str]) -> tuple[Detections, np.ndarray]:
        """Detect the objects of one image, and segment it in the same pass.

        Returns:
            Detections as from `predict`; and a label map `(*s)` on the voxels of the image file: 0 for background,
            1 + k for class k of `segmentation_classes`.

        Raises:
            ValueError: the models do not segment, or were trained without masks.
        """
        if not self.segmentation_classes:
            raise ValueError("this detector does not segment; train a model that does, such as retina_unet, with masks")
        opened = self._as_image(image)
        raw, labels, shape = self.predict_raw(opened, segmentation=True)
        return self.finish(raw, shape, opened.geometry), labels  # type: ignore[return-value]

    def segment_boxes(self, image: Image[Voxels], boxes: np.ndarray, *, name: str = "image") -> np.ndarray:
        """Segment an image in given boxes `(n, 2, d)`, in its voxels; label map as from `segment`.

        Args:
            image: on whose grid the boxes are.
            boxes: the boxes.
            name: what errors call the image, such as its file.

        Raises:
            ValueError: a model does not segment given boxes, or the image does not fit.
        """
        prepared = self._prepare(image, name)
        shape = prepared.shape[1:]
        scaled = boxes * (np.asarray(shape) / image.geometry.shape)
        painter = Painter(shape[0], image.geometry.shape)
        with torch.inference_mode():
            segment_given(self.models, prepared, scaled, prepared.fill, self.task, self.device, painter.add)
        return painter.labels

    def predict_raw(
        self, image: Image[Voxels], *, segmentation: bool | None = None, name: str = "image"
    ) -> tuple[RawDetections, np.ndarray | None, tuple[int, ...]]:
        """Every box of every view, in the voxels of the prepared image, a label map if wanted, and its shape.

        Args:
            segmentation: also return the label map, as from `segment`; None leaves that to the settings.
            name: what errors call the image, such as its file.
        """
        prepared = self._prepare(image, name)
        wanted = self.predict_config.segmentation if segmentation is None else segmentation
        painter = Painter(prepared.shape[1], image.geometry.shape) if wanted else None
        raw = self.predict_prepared(prepared, prepared.fill, planes=painter.add if painter else None)
        return raw, painter.labels if painter else None, prepared.shape[1:]

    def _prepare(self, image: Image[Voxels], name: str) -> Prepared:
        """The voxels `(c, *s)` that the models see."""
        if len(image.array) != len(self.task.channels):
            raise ValueError(
                f"the image has {counted(len(image.array), 'channel')}, the detector was trained on "
                f"{len(self.task.channels)}: {', '.join(self.task.channels)}"
            )
        if len(image.array.shape) - 1 != len(self.task.spacing):
            raise ValueError(
                f"the image has {len(image.array.shape) - 1} axes, "
                f"the detector was trained on images of {len(self.task.spacing)}"
            )
        return Prepared(image, self.task, name)

    def predict_prepared(
        self, image: Voxels, fill: float | None = None, *, planes: Callable[[np.ndarray], object] | None = None
    ) -> RawDetections:
        """Every box of every view of an image `(c, *s)` that is prepared already, in its voxels.

        Args:
            image: the image.
            fill: its least value; None if that is to be computed from an array.
            planes: takes the segmentation, see `boxel.inference.raw.predict_raw`.
        """
        with torch.inference_mode():
            fill = float(np.asarray(image).min()) if fill is None else fill
            return predict_raw(self.models, image, fill, self.task, self.predict_config, self.device, planes)

    def _as_image(self, source: Image | Path | str | Sequence[Path | str]) -> Image[Voxels]:
        if isinstance(source, Image):
            return source
        files = [Path(file) for file in ([source] if isinstance(source, str | Path) else source)]
        image = fit_image(open_channels(files), self.task.channels, len(self.task.spacing), files[0])
        check_grid(image.geometry, self.task, str(files[0]), in_parts=not isinstance(image.array, np.ndarray))
        for remark in (*image.remarks, *self.differences(image, files[0])):
            logging.getLogger("boxel").warning(f"{files[0]}: {remark}")
        return image

    def differences(
        self, image: Image[Voxels], file: Path, uid: str | None = None, *, modality: bool = True
    ) -> tuple[str, ...]:
        """A warning if an image is of another kind than the training images; none where that is not known.

        Args:
            image: as it is stored.
            file: its file, or the folder of a DICOM series.
            uid: of the series, where the folder has several.
            modality: Whether another modality is only a difference.

        Raises:
            ValueError: it is of another modality, and that is more than a difference.
        """
        if not self.training_images:
            return ()
        about = describe(image, file, uid)
        if not modality and (other := self.training_images.other_modality(about)):
            known = " or ".join(self.training_images.modalities)
            raise ValueError(f"{file}: modality {other}, but the run was trained on {known}; add --force to predict it")
        found = self.training_images.differences(about)
        return (f"unlike the training images: {'; '.join(found)}",) if found else ()

    def finish(self, raw: RawDetections, shape: tuple[int, ...], original: Geometry) -> Detections:
        """Consolidated detections on the original grid, from those in a prepared image of `shape`."""
        detections = consolidate(raw, self.consolidation_of(shape), geometry=original, shape=shape)
        return self.operating_points.calibrated(detections) if self.operating_points else detections

    def consolidation_of(self, shape: Sequence[int]) -> ConsolidateConfig:
        """The settings of consolidation for a prepared image of `shape`, with the plan's number of detections."""
        config = self.consolidate_config
        if config.max_detections is not None:
            return config
        return config.model_copy(update={"max_detections": self.task.detections_in(shape)})


load = Detector.load
