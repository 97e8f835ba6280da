"""The nouns that travel between the stages.

Positions are continuous voxel coordinates in array-axis order (plane, row, column): voxel `i` covers `[i, i + 1)`,
a box is its lower and upper corner `(2, d)`; world coordinates are LPS mm `(x, y, z)`. Empty sets keep their shape.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, Self, cast

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from boxel.columns import A, B, Columns, object_tensors
from boxel.config import Config
from boxel.slabs import V
from boxel.strides import level_strides

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

Progress = Callable[[str, int, int], None]  # called with a step, how much of it is done, and how much there is


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Geometry:
    """Where a voxel grid lies in the world.

    Attributes:
        shape: voxels per array axis.
        spacing: mm per voxel, per array axis.
        origin: LPS mm `(x, y[, z])` of the centre of the first voxel.
        direction: `(d, d)`; column `k` is the LPS unit vector along array axis `k`.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[tuple[float, ...], ...]

    @classmethod
    def plain(cls, shape: Sequence[int], spacing: Sequence[float] | None = None) -> Self:
        """A grid without a known position: unit spacing unless given, array axes along the reversed world axes."""
        d, direction = len(shape), np.eye(len(shape))[::-1].tolist()
        steps = tuple(map(float, spacing or (1.0,) * d))
        return cls(tuple(map(int, shape)), steps, (0.0,) * d, tuple(map(tuple, direction)))

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Convert continuous voxel positions `(n, d)` to LPS mm `(n, d)`."""
        return (np.asarray(points, np.float64) - 0.5) * self.spacing @ np.asarray(self.direction).T + self.origin

    def to_voxel(self, points: np.ndarray) -> np.ndarray:
        """Convert LPS mm `(n, d)` to continuous voxel positions `(n, d)`."""
        steps = np.linalg.solve(np.asarray(self.direction), (np.asarray(points) - np.asarray(self.origin)).T).T
        return steps / np.asarray(self.spacing) + 0.5


def rescale_boxes(boxes: np.ndarray, shape: Sequence[int], new_shape: Sequence[int]) -> np.ndarray:
    """Scale boxes `(n, 2, d)` from a grid of `shape` to one of `new_shape` with the same outer faces; float32."""
    return np.multiply(boxes, np.asarray(new_shape) / np.asarray(shape), dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class Image(Generic[V]):
    """A sampled image: `array (c, *s)`, its geometry, and remarks on its reading (perhaps with `; suggested fix`)."""

    array: V
    geometry: Geometry
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instances(Columns[A]):
    """The annotated objects of one image.

    Attributes:
        boxes: `(n, 2, d)` float32.
        labels: `(n,)` int64, index into the classes.
        ids: `(n,)` int64, the number of each object, unique in its image.
        has_mask: `(n,)` bool, whether the image's label map carries the object under its id.
    """

    boxes: A
    labels: A
    ids: A
    has_mask: A

    def map(self, function: Callable[[A], B]) -> "Instances[B]":
        """Apply `function` to every array field."""
        return cast(Instances[B], self._replace(function))

    @classmethod
    def empty(cls, ndim: int) -> "Instances":
        """No objects in an image of `ndim` axes."""
        none = np.zeros(0, np.int64)
        return Instances(np.zeros((0, 2, ndim), np.float32), none, none, none.astype(bool))

    @classmethod
    def from_boxes(
        cls, boxes: "ArrayLike | Tensor", labels: "ArrayLike | Tensor", *, ndim: int | None = None
    ) -> "Instances[Tensor]":
        """Objects without masks, as tensors, from `boxes (n, 2, d)` and `labels (n,)`: lists, numpy arrays or tensors.

        Args:
            ndim: axes of the image; needed only where `boxes` may be an empty list, which has none.

        Raises:
            ValueError: wrong shapes, inverted or infinite boxes, labels that are no class indices; names the row.

        Example:
            >>> boxel.Instances.from_boxes([[[2, 3], [8, 9]]], [0]).boxes.tolist()
            [[[2.0, 3.0], [8.0, 9.0]]]
        """
        corners, classes, ids = object_tensors(boxes, labels, ndim)
        return Instances(corners, classes, ids, ids < 0)


@dataclass(frozen=True)
class Detections(Columns[A]):
    """The detected objects of one image, in its voxels.

    Attributes:
        boxes: `(n, 2, d)` float32.
        scores: `(n,)` float32 in 0..1.
        labels: `(n,)` int64, index into the classes.
        geometry: of the image the boxes refer to, where known.
        masks: `(n, *g)`, where requested: the probability that the centre of each cell of a regular grid over the
            box belongs to the object; `boxel.ops.paste_mask` converts it to voxels.
        capped: whether `max_detections` left out detections with scores of 0.1 or more.
    """

    boxes: A
    scores: A
    labels: A
    geometry: Geometry | None = None
    masks: A | None = None
    capped: bool = False

    def map(self, function: Callable[[A], B]) -> "Detections[B]":
        """Apply `function` to every array field."""
        return cast(Detections[B], self._replace(function))

    @classmethod
    def empty(cls, ndim: int, geometry: Geometry | None = None) -> "Detections":
        """No detections in an image of `ndim` axes."""
        return Detections(np.zeros((0, 2, ndim), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), geometry)


@dataclass(frozen=True)
class RawDetections(Columns[A]):
    """Every box of every view of one image, before consolidation, in the voxels of the prepared image.

    Attributes:
        boxes: `(n, 2, d)` float32.
        scores: `(n,)` float32 in 0..1.
        labels: `(n,)` int64, index into the classes.
        views: `(n,)` int64, which view (checkpoint x scale x mirror) predicted the box.
        tiles: `(n,)` int64, which tile predicted it.
        weights: `(n,)` float32, the patch-centre factor p of weighted box clustering.
        coverage: `(n,)` float32, mean number of tiles that cover the box.
        num_views: number of views that were run per voxel.
        slice_axes: number of leading axes along which each box is one slice thick, as slice-wise models predict them.
        masks: as in `Detections`.
        capped: whether `max_detections` left out boxes of a tile with scores of 0.1 or more.
    """

    boxes: A
    scores: A
    labels: A
    views: A
    tiles: A
    weights: A
    coverage: A
    num_views: int = 1
    slice_axes: int = 0
    masks: A | None = None
    capped: bool = False

    def map(self, function: Callable[[A], B]) -> "RawDetections[B]":
        """Apply `function` to every array field."""
        return cast(RawDetections[B], self._replace(function))


@dataclass(frozen=True)
class Sample:
    """One training patch: `image (c, *s)`, `label_map (*s)` of instance ids, and the objects in patch voxels.

    `ignored (k, 2, d)` are ignored regions: excluded from training, both as objects and as background.
    """

    image: np.ndarray
    label_map: np.ndarray
    instances: Instances
    ignored: np.ndarray
    case: str = ""


@dataclass(frozen=True)
class Batch:
    """Images of a training step, with their objects.

    Attributes:
        images: `(b, c, *s)`.
        label_maps: `(b, *s)` of instance ids; None where no object has a mask: models then learn nothing from masks.
        instances: the objects of each image, as tensors.
        cases: where each image comes from.
        ignored: `(k, 2, d)` per image, regions that are excluded from training; or nothing at all.
    """

    images: "Tensor"
    label_maps: "Tensor | None" = None
    instances: "list[Instances[Tensor]]" = field(default_factory=list)
    cases: tuple[str, ...] = ()
    ignored: "list[Tensor]" = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.label_maps is None and any(bool(one.has_mask.any()) for one in self.instances):
            raise ValueError("a batch whose instances have masks needs label_maps; or set their has_mask to False")


class Split(Config):
    """Ids of the cases to train, validate and test on: one fold."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


class Normalisation(Config):
    """How the values of one channel are normalised.

    `ct`: clip to lower..upper, subtract `mean`, divide by `std` (of objects with their surroundings, or a window).
    `z_score`: each image by its own mean and standard deviation. `fixed`: as `ct`, not clipped. `none`: unchanged.
    """

    kind: Literal["ct", "z_score", "fixed", "none"] = "z_score"
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: NonNegativeFloat = 1.0


class Task(Config):
    """What the data dictates: measured by the fingerprint, completed by the rules of the plan, stored as `task.json`.

    Attributes:
        ndim: number of spatial axes of the model; smaller than that of the images for slice-wise models.
        channels: names of the image channels (modalities), in file order.
        classes: names of the object classes.
        spacing: mm per voxel that images are resampled to, array order; `spacing_unit` voxel: voxels of each image.
        normalisation: one rule per channel.
        patch_size: voxels per axis of a training patch and of an inference tile.
        batch_size: patches per training step.
        strides: per stage C1, C2, ... of the backbone, the stride of each axis relative to the stage before.
        levels: the pyramid levels with detection heads; level `k` is the output of stage Ck; see `boxel.strides`.
        anchors: per level, the anchor sizes (voxels, one number per axis) at every position.
        context: number of neighbouring slices on either side that a slice-wise model sees as further channels.
        max_detections: the number of detections kept per image, best first; models keep as many per patch.
        image_voxels: median size of the prepared training images; larger ones keep more detections. None: none do.
        masks: whether some objects have masks; otherwise no model learns to segment.
        why: a sentence of explanation for each choice above.
    """

    name: str
    ndim: int = Field(ge=1, le=3)
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    spacing: tuple[PositiveFloat, ...]
    normalisation: tuple[Normalisation, ...]
    patch_size: tuple[PositiveInt, ...]
    batch_size: PositiveInt
    strides: tuple[tuple[PositiveInt, ...], ...]
    levels: tuple[PositiveInt, ...]
    anchors: tuple[tuple[tuple[PositiveFloat, ...], ...], ...]
    context: NonNegativeInt = 0
    max_detections: PositiveInt = 100
    image_voxels: PositiveInt | None = None
    spacing_unit: Literal["mm", "voxel"] = "mm"
    masks: bool = True
    why: dict[str, str] = {}

    def detections_in(self, shape: Sequence[int]) -> int:
        """The number of detections kept in a prepared image of `shape`: more in one larger than those of training."""
        return math.ceil(self.max_detections * max(1.0, math.prod(shape) / (self.image_voxels or math.inf)))

    @property
    def input_channels(self) -> int:
        """Number of channels of the model's input: those of the image, each with its neighbouring slices."""
        return len(self.channels) * (2 * self.context + 1)

    @property
    def level_strides(self) -> tuple[tuple[int, ...], ...]:
        """Voxels per cell and axis of each level with detection heads."""
        return level_strides(self.strides, self.levels)
