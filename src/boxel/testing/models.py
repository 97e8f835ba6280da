"""Checks of what you add to Boxel, for your tests and ours."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from boxel.evaluation import EvaluateConfig, evaluate
from boxel.models.base import Model, ModelConfig
from boxel.models.grid import PyramidGrid
from boxel.training.tensors import load_weights, save_tensors
from boxel.types import Batch, Detections, Instances, Normalisation, Task

CLASSES = ("small", "large")
WIDTHS = (5, 9)  # voxels of an object of each class
SIZE = 16  # voxels per axis of an image
__all__ = ["check_model"]


def check_model(config: ModelConfig, ndims: Sequence[int] = (2, 3), *, overfit: bool = False) -> None:
    """Check that a model keeps what Boxel relies on, for images with each number of axes in `ndims`.

    It is built for a small task of two classes, and then: its loss is finite without objects and without masks, and
    trains every parameter over its `phases`; its outputs and loss terms do not depend on `train()` or `eval()`, nor
    the shapes of its outputs on the values in the images; its network exports (`torch.export`); its detections lie in
    the image, by descending score, and are the same after the weights were saved and loaded; it gives masks and
    segments where its configuration says so, and refuses otherwise. Settings called `min_score` are set to 0, so that
    an untrained model detects something.

    Args:
        config: narrow, to be quick.
        overfit: also train on a few images until AP@0.10 on them is 1; takes up to a minute.

    Raises:
        AssertionError: names what does not hold.

    Example:
        >>> from boxel.models import DenseConfig, FPNConfig, ResNetConfig, RetinaNetConfig
        >>> from boxel.testing import check_model
        >>> backbone = ResNetConfig(depth=10, start_filters=4, norm="group")
        >>> config = RetinaNetConfig(backbone=backbone, neck=FPNConfig(filters=8), dense=DenseConfig(filters=8))
        >>> check_model(config, ndims=[2])
    """
    for ndim in ndims:
        task = _task(ndim)
        torch.manual_seed(0)
        model = _without_thresholds(config).build(task)
        _check_losses(model, task)
        _check_outputs(model, _batch(task, 2))
        _check_detections(config, model, _batch(task, 2))
        _check_segmentation(config, model, _batch(task, 2))
        with tempfile.TemporaryDirectory() as folder:
            other = _without_thresholds(config).build(task)
            save_tensors(Path(folder) / "weights.safetensors", model.state_dict())
            load_weights(other, Path(folder) / "weights.safetensors")
        images = _batch(task, 2).images
        same = zip(_detect(model, images), _detect(other, images), strict=True)
        _require(all(_equal(*pair) for pair in same), "the detections differ after saving and loading the weights")
        if overfit:
            precision = learn_by_heart(config.build(task), _batch(task, 8), CLASSES)
            _require(precision == 1.0, f"AP@0.10 is {precision:.3f} on the 8 images that it was trained on")


def learn_by_heart(
    model: Model, batch: Batch, classes: Sequence[str], steps: int = 300, *, metric: str = "AP@0.10", lr: float = 5e-3
) -> float:
    """The metric on the batch that a model is trained on, after at most `steps` steps of each phase."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    value = 0.0
    for step in range(1, steps + 1):
        for phase in model.phases:
            loss = torch.stack(list(model.train()(batch.images, batch, phase=phase).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        if step % 20 == 0:
            predictions = {str(case): one.map(np.asarray) for case, one in enumerate(_detect(model, batch.images))}
            ground_truth = {str(case): one.map(np.asarray) for case, one in enumerate(batch.instances)}
            evaluation = evaluate(
                predictions, ground_truth, classes=tuple(classes), config=EvaluateConfig(num_resamples=0)
            )
            value = evaluation.metrics[metric] or 0.0
            if value == 1.0:
                break
    return value


def _check_losses(model: Model, task: Task) -> None:
    full, empty = _batch(task, 2), _batch(task, 2, objects=0)
    boxes = replace(full, label_maps=None, instances=[Instances.from_boxes(i.boxes, i.labels) for i in full.instances])
    for what, batch in {"objects": full, "no object": empty, "no masks": boxes}.items():
        model.zero_grad()
        names = set()
        for phase in model.phases:
            terms = model.train()(batch.images, batch, phase=phase)
            names |= terms.keys()
            sum(terms.values()).backward()
            bad = [name for name, term in terms.items() if not torch.isfinite(term)]
            _require(not bad, f"the loss terms {bad} are not finite on images with {what}")
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        bad = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
        _require(not bad, f"the gradients of {bad} are not finite on images with {what}")
        idle = [name for name, gradient in gradients.items() if gradient is None]
        _require(not idle, f"no loss term depends on the parameters {idle}, on images with {what}")
        again = {name for phase in model.phases for name in model.eval()(batch.images, batch, phase=phase)}
        _require(names == again, f"the loss has the terms {names} after train(), {again} after eval()")


def _check_outputs(model: Model, batch: Batch) -> None:
    with torch.no_grad():
        first = _shapes(model.train().infer(batch.images, segmentation=True))
        _require(_shapes(model.eval().infer(batch.images, segmentation=True)) == first, "infer depends on eval()")
        blank = _shapes(model.infer(torch.zeros_like(batch.images), segmentation=True))
        _require(blank == first, "the shapes of the outputs depend on the values in the images")
        exported = torch.export.export(_Network(model), (batch.images,)).module()
        pairs = zip(exported(batch.images), _Network(model)(batch.images), strict=True)
        close = all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in pairs)
        _require(close, "the network computes something else after torch.export")


def _check_detections(config: ModelConfig, model: Model, batch: Batch) -> None:
    shape = batch.images.shape[2:]
    masked = _detect(model, batch.images, masks=True) if config.gives_masks else None
    for image, one in enumerate(_detect(model, batch.images)):
        _require(one.boxes.shape[1:] == (2, len(shape)), f"boxes have the shape {tuple(one.boxes.shape)}")
        inside = (one.boxes >= 0).all() and (one.boxes <= one.boxes.new_tensor(shape)).all()
        _require(inside and (one.boxes[:, 1] > one.boxes[:, 0]).all(), "a box is empty or outside the image")
        _require((one.scores.diff() <= 0).all(), "the detections are not by descending score")
        _require(((one.scores >= 0) & (one.scores <= 1)).all(), "a score is outside 0..1")
        _require(((one.labels >= 0) & (one.labels < len(CLASSES))).all(), "a label is no index of a class")
        _require(one.masks is None, "the detections have masks without masks=True")
        if masked is not None:
            masks = masked[image].masks
            _require(_equal(one, masked[image]), "the detections differ with masks=True")
            _require(masks is not None and masks.ndim == 1 + len(shape), "there are no masks, or of another rank")
            _require(masks is not None and bool(((masks >= 0) & (masks <= 1)).all()), "a mask is outside 0..1")
    if not config.gives_masks:
        _require(_refuses(lambda: _detect(model, batch.images, masks=True)), "it ignores masks=True, but has no masks")


def _check_segmentation(config: ModelConfig, model: Model, batch: Batch) -> None:
    with torch.inference_mode():
        outputs = model.eval().infer(batch.images, segmentation=True)
        _require(config.segments or _refuses(lambda: model.segment(outputs)), "it segments, but segments is False")
        if config.segments:
            maps = model.segment(outputs)
            channels = 1 + len(config.segmentation_classes(CLASSES))
            expected = (len(batch.images), channels, *batch.images.shape[2:])
            _require(maps.shape == expected, f"segment gives the shape {tuple(maps.shape)}, not {expected}")
            likely = (maps >= 0).all() and torch.allclose(maps.sum(1), torch.ones_like(maps[:, 0]), atol=1e-4)
            _require(likely, "the segmentation is no probability of each class: it does not sum to 1")


class _Network(nn.Module):
    """The network of a model, from an image to the tensors of its outputs."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        return [leaf for leaf in tree_leaves(self.model.infer(images, segmentation=True)) if isinstance(leaf, Tensor)]


def _task(ndim: int) -> Task:
    sizes = tuple(((float(width),) * ndim,) for width in WIDTHS)
    grid = PyramidGrid.default(ndim, strides=[(2,) * ndim] * 2, levels=[1, 2], anchors=sizes)
    return Task(
        name="check",
        ndim=ndim,
        channels=("image",),
        classes=CLASSES,
        spacing=(1.0,) * ndim,
        normalisation=(Normalisation(),),
        patch_size=(SIZE,) * ndim,
        batch_size=2,
        strides=grid.strides,
        levels=grid.levels,
        anchors=grid.anchors,
    )


def _batch(task: Task, num_images: int, objects: int = 1) -> Batch:
    """Noise with bright cubes, brighter if they are large, with their masks."""
    generator = torch.Generator().manual_seed(0)
    images = 0.1 * torch.randn((num_images, 1, *task.patch_size), generator=generator)
    label_maps = torch.zeros((num_images, *task.patch_size), dtype=torch.int32)
    instances = []
    for image, label_map in zip(images, label_maps, strict=True):
        labels = torch.randint(len(CLASSES), (objects,), generator=generator)
        boxes = torch.zeros((objects, 2, task.ndim))
        for row, label in enumerate(labels.tolist()):
            lower = torch.randint(SIZE - WIDTHS[label] + 1, (task.ndim,), generator=generator)
            voxels = tuple(slice(start, start + WIDTHS[label]) for start in lower.tolist())
            image[(0, *voxels)] += 1.0 + label
            label_map[voxels] = row + 1
            boxes[row] = torch.stack([lower, lower + WIDTHS[label]])
        known = Instances.from_boxes(boxes, labels)
        instances.append(replace(known, has_mask=torch.ones_like(known.has_mask)))
    return Batch(images, label_maps, instances, tuple(map(str, range(num_images))))


def _without_thresholds(config: ModelConfig) -> ModelConfig:
    def lower(values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: 0.0 if key == "min_score" else lower(value) for key, value in values.items()}

    return type(config).from_dict(lower(config.to_dict()))


@torch.inference_mode()
def _detect(model: Model, images: Tensor, *, masks: bool = False) -> list[Detections[Tensor]]:
    return model.eval()(images, masks=masks)


def _shapes(outputs: Any) -> list[Any]:
    return [tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in tree_leaves(outputs)]


def _equal(one: Detections[Tensor], other: Detections[Tensor]) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("boxes", "scores", "labels"))


def _refuses(call: Any) -> bool:
    try:
        call()
    except ValueError:
        return True
    return False


def _require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)
