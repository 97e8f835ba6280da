"""Which patch a training step sees: a pure function of the seed and the number of the sample.

A foreground patch is chosen without rejection: first a class, then one of its objects, then a place around it.
In the orders `epoch` and `balanced` the image, or the slice, is that which is due, see `boxel.loading.order`.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from boxel.config import Config
from boxel.loading.order import Turns, reached
from boxel.ops.tiling import fold_slices
from boxel.preparation.store import Store
from boxel.ranges import ZeroToOne
from boxel.types import Instances, Sample, Task


class SamplerConfig(Config):
    """How training patches are chosen.

    Attributes:
        foreground: share of patches that are placed around an object, whose class is drawn uniformly.
        slices: what slice-wise models are trained on: `all` slices, or `positive` ones only, which an object reaches;
            each positive slice is drawn equally often. For other models, images instead of slices. Validation and
            prediction see all.
        order: `random`: every patch is drawn independently; `epoch`: each pass has a patch of every image, or of every
            slice for slice-wise models; `balanced`: the classes take turns, each with the images, or slices, that have
            an object of it. Small classes begin again until the largest has been seen once, which ends a pass.
        shuffle: in the orders `epoch` and `balanced`, whether the seed shuffles each pass anew; false: in the order of
            the cases in the fold, by name unless the data set prescribes folds.

    `foreground` then is the share of the patches of an image that are placed around one of its objects: with
    `balanced`, around one of the class whose turn it is.
    """

    foreground: ZeroToOne = 0.5
    slices: Literal["all", "positive"] = "all"
    order: Literal["random", "epoch", "balanced"] = "random"
    shuffle: bool = True

    @model_validator(mode="after")
    def _all_have_effect(self) -> Self:
        if not self.shuffle and self.order == "random":
            raise ValueError(
                "shuffle=false has no effect on patches drawn at random; set train.sampler.order to epoch or balanced"
            )
        if self.slices == "positive" and self.order == "balanced":
            raise ValueError(
                "slices=positive has no effect with order=balanced, which takes slices with objects only; leave it out"
            )
        return self


class PatchSampler:
    """Training patches of a store; `sampler[k]` is always the same patch.

    Args:
        margin: size of the region that is read, relative to the patch; larger than 1 for augmentation that rotates and
            scales.

    Raises:
        ValueError: there are no cases, or images or slices with objects are asked for and there are none.
    """

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        task: Task,
        config: SamplerConfig,
        *,
        seed: int,
        margin: float = 1.0,
    ) -> None:
        if not ids:
            raise ValueError("no training cases in this fold; check splits.json")
        self.store, self.ids, self.task, self.config, self.seed = store, list(ids), task, config, seed
        # An even difference keeps the centres of region and patch on the same voxel edge.
        self.region = tuple(size + 2 * math.ceil(size * (margin - 1) / 2) for size in task.patch_size)
        self.objects: list[list[tuple[int, int]]] = [[] for _ in task.classes]  # per class: (case, row)
        for case, case_id in enumerate(self.ids):
            for row, label in enumerate(store.meta(case_id).instances.labels):
                self.objects[int(label)].append((case, row))
        self.present = [label for label, objects in enumerate(self.objects) if objects]
        self.positive = self._positive_slices() if config.slices == "positive" else None
        self.turns = self._turns()

    def __getitem__(self, index: int) -> Sample:
        return self._read(*self.place(index))

    def place(self, index: int) -> tuple[str, np.ndarray]:
        """The case of a patch and its lower corner; reads no image."""
        rng = np.random.default_rng([self.seed, index])
        if self.turns:
            return self._due(self.turns, index, rng)
        anchor = None
        leading: list[int] = []
        if self.present and rng.random() < self.config.foreground:
            objects = self.objects[self.present[rng.integers(len(self.present))]]
            case, row = objects[rng.integers(len(objects))]
            anchor = self.store.meta(self.ids[case]).instances.boxes[row]
        elif self.positive is not None:
            case, *leading = self.positive[rng.integers(len(self.positive))].tolist()
        else:
            case = int(rng.integers(len(self.ids)))
        corner = self._corner(self.ids[case], anchor, rng)
        corner[: len(leading)] = leading
        return self.ids[case], corner

    def _due(self, turns: Turns, index: int, rng: np.random.Generator) -> tuple[str, np.ndarray]:
        """The place of a patch in the image, or slice, that is due; around one of its objects as `foreground` says."""
        turn, (case, *leading) = turns.due(index)
        objects = self.store.meta(self.ids[case]).instances
        lead = len(leading)
        here = ((objects.boxes[:, 0, :lead] < np.add(leading, 1)) & (objects.boxes[:, 1, :lead] > leading)).all(1)
        if turn is not None:
            here &= objects.labels == turn
        anchor = None
        if here.any() and rng.random() < self.config.foreground:
            labels = np.unique(objects.labels[here])
            rows = np.flatnonzero(here & (objects.labels == labels[rng.integers(len(labels))]))
            anchor = objects.boxes[rows[rng.integers(len(rows))]]
        corner = self._corner(self.ids[case], anchor, rng)
        corner[:lead] = leading
        return self.ids[case], corner

    @property
    def patches_per_epoch(self) -> int:
        """The patches of one pass over the data: as many as cover every image, or every slice, side by side.

        Patches are drawn at random, so a pass sees each part of the data once on average. In the orders `epoch` and
        `balanced` it has one patch of every image or slice that is due in it.
        """
        if self.turns:
            return self.turns.per_pass
        patch, lead = np.asarray(self.task.patch_size), len(self.task.spacing) - self.task.ndim
        shapes = np.array([self.store.meta(case_id).shape for case_id in self.ids])
        slices = shapes[:, :lead].prod(1)
        if self.positive is not None:
            slices = np.bincount(self.positive[:, 0], minlength=len(self.ids))
        return int((slices * np.ceil(shapes[:, lead:] / patch).astype(int).prod(1)).sum())

    def _positive_slices(self) -> np.ndarray:
        """For each slice, or image, with an object, its case and its position along each leading axis."""
        slices = self._images(reached)
        if not len(slices):
            raise ValueError(
                f"train.sampler.slices=positive: no object in any of the {len(self.ids)} training cases; "
                "set train.sampler.slices=all, or check the annotations with boxel check"
            )
        return slices

    def _images(self, chosen: Callable[[Instances, tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Case, and position along each leading axis, of the images or slices that `chosen` marks in each case."""
        lead = len(self.task.spacing) - self.task.ndim
        rows = []
        for case, case_id in enumerate(self.ids):
            meta = self.store.meta(case_id)
            rows.append(np.insert(np.argwhere(chosen(meta.instances, meta.shape[:lead])), 0, case, axis=1))
        return np.concatenate(rows)

    def _turns(self) -> Turns | None:
        """Which image or slice is due when; None where all are drawn at random."""
        if self.config.order == "random":
            return None
        if self.config.order == "epoch":
            every = self.positive if self.positive is not None else self._images(lambda _, shape: np.ones(shape, bool))
            return Turns({None: every}, self.seed, shuffle=self.config.shuffle)
        absent = [name for name, objects in zip(self.task.classes, self.objects, strict=True) if not objects]
        if not self.present:
            raise ValueError(
                f"train.sampler.order=balanced: no object in the {len(self.ids)} training cases; set "
                "train.sampler.order=epoch, or check the annotations with boxel check"
            )
        if absent:
            warnings.warn(
                f"train.sampler.order=balanced: no training case has {', '.join(absent)}; the other classes take turns",
                stacklevel=3,
            )
        bins = {label: self._images(partial(reached, label=label)) for label in self.present}
        return Turns(bins, self.seed, shuffle=self.config.shuffle)

    def _corner(self, case_id: str, anchor: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """Lower corner of the patch (not of the region), in image voxels."""
        shape = np.asarray(self.store.meta(case_id).shape)
        lead = len(shape) - self.task.ndim  # slice-wise models: one slice of each leading axis
        patch = np.asarray((1,) * lead + self.task.patch_size)
        first, last = np.minimum(0, shape - patch), np.maximum(0, shape - patch)
        if anchor is not None:
            # The object lies inside the patch where it fits, else the patch lies inside the object.
            lower, upper = np.floor(anchor[0]), np.ceil(anchor[1])
            a, b = np.minimum(lower, upper - patch), np.maximum(lower, upper - patch)
            narrow_first, narrow_last = np.maximum(first, a), np.minimum(last, b)
            usable = narrow_first <= narrow_last
            first, last = np.where(usable, narrow_first, first), np.where(usable, narrow_last, last)
        return rng.integers(first.astype(int), last.astype(int) + 1)

    def _read(self, case_id: str, corner: np.ndarray) -> Sample:
        lead = len(corner) - self.task.ndim
        grow = (np.asarray(self.region) - np.asarray(self.task.patch_size)) // 2
        lower = corner - np.concatenate([np.full(lead, self.task.context), grow])
        upper = np.concatenate([corner[:lead] + self.task.context + 1, lower[lead:] + self.region])
        image, label_map = self.store.read(case_id, lower.tolist(), upper.tolist())
        middle = (self.task.context,) * lead
        meta = self.store.meta(case_id)
        boxes, seen = self._seen(meta.instances.boxes - lower.astype(np.float32))
        ignored, near = self._seen(meta.ignored - lower.astype(np.float32))
        instances = replace(meta.instances, boxes=boxes)[seen]
        return Sample(fold_slices(image, lead), label_map[middle], instances, ignored[near], case_id)

    def _seen(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes in voxels of the region, without the axes along which it is one slice, and which of them overlap it."""
        lead = boxes.shape[-1] - self.task.ndim
        first = np.array((self.task.context,) * lead + (0,) * self.task.ndim)
        last = np.array((self.task.context + 1,) * lead + self.region)
        return boxes[:, :, lead:], np.all((boxes[:, 0] < last) & (boxes[:, 1] > first), axis=-1)
