"""The nouns that travel between the stages.

Positions are continuous voxel coordinates in array-axis order (plane, row, column): voxel `i` covers `[i, i + 1)`,
a box is its lower and upper corner `(2, d)`. World coordinates are LPS millimetres `(x, y, z)`.
Arrays are numpy or torch alike; an empty set keeps its shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import numpy as np

from boxel.config import Config

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


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
        """A grid without a world: unit spacing unless given, array axes along the reversed world axes."""
        d = len(shape)
        direction = np.eye(d)[::-1]
        return cls(tuple(map(int, shape)), tuple(map(float, spacing or (1.0,) * d)), (0.0,) * d,
                   tuple(map(tuple, direction.tolist())))  # fmt: skip

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Continuous voxel positions `(n, d)` to LPS mm `(n, d)`."""
        steps = (np.asarray(points, dtype=np.float64) - 0.5) * np.asarray(self.spacing)
        return steps @ np.asarray(self.direction).T + np.asarray(self.origin)

    def to_voxel(self, points: np.ndarray) -> np.ndarray:
        """LPS mm `(n, d)` to continuous voxel positions `(n, d)`."""
        steps = np.linalg.solve(np.asarray(self.direction), (np.asarray(points) - np.asarray(self.origin)).T).T
        return steps / np.asarray(self.spacing) + 0.5


@dataclass(frozen=True)
class Image:
    """A sampled image: `array (c, *s)`, its geometry, and what a user should know about how it was read."""

    array: np.ndarray
    geometry: Geometry
    remarks: tuple[str, ...] = ()


class _Parallel:
    """Dataclasses whose array fields share their first axis."""

    def __len__(self) -> int:
        return len(self.boxes)  # type: ignore[attr-defined]

    def _arrays(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if hasattr(value, "dtype")}

    def __getitem__(self, index: Any) -> Self:
        """The rows chosen by a slice, a boolean mask or an index array."""
        return replace(self, **{name: value[index] for name, value in self._arrays().items()})  # type: ignore[type-var]

    def __post_init__(self) -> None:
        boxes = self.boxes  # type: ignore[attr-defined]
        if tuple(boxes.shape[1:-1]) != (2,):
            raise ValueError(f"boxes must have shape (n, 2, ndim), got {tuple(boxes.shape)}")
        for name, value in self._arrays().items():
            if len(value) != len(boxes):
                raise ValueError(f"{name} has {len(value)} rows but there are {len(boxes)} boxes")

    def map(self, function: Any) -> Self:
        """Apply `function` to every array field."""
        return replace(self, **{name: function(value) for name, value in self._arrays().items()})  # type: ignore[type-var]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All rows of `parts` (at least one), in order; other fields are those of the first."""
        first = parts[0]
        if not isinstance(first.boxes, np.ndarray):  # type: ignore[attr-defined]
            import torch

            join: Any = torch.cat
        else:
            join = np.concatenate
        return replace(first, **{name: join([getattr(part, name) for part in parts]) for name in first._arrays()})  # type: ignore[type-var]


@dataclass(frozen=True)
class Instances(_Parallel):
    """The annotated objects of one image.

    Attributes:
        boxes: `(n, 2, d)` float32.
        labels: `(n,)` int64, index into the classes.
        ids: `(n,)` int64, the number of each object, unique in its image.
        has_mask: `(n,)` bool, whether the image's label map carries the object under its id.
    """

    boxes: Any
    labels: Any
    ids: Any
    has_mask: Any

    @classmethod
    def empty(cls, ndim: int) -> Self:
        return cls(
            np.zeros((0, 2, ndim), np.float32),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, bool),
        )

    @classmethod
    def from_boxes(cls, boxes: Any, labels: Any) -> Self:
        """Objects without masks, as tensors, from `boxes (n, 2, d)` and `labels (n,)`: lists, numpy arrays or tensors.

        Example:
            >>> from boxel import Instances
            >>> Instances.from_boxes([[[2, 3], [8, 9]]], [0]).boxes.tolist()
            [[[2.0, 3.0], [8.0, 9.0]]]
        """
        import torch

        corners = torch.as_tensor(boxes, dtype=torch.float32)
        kinds = torch.as_tensor(labels, dtype=torch.int64, device=corners.device)
        ids = torch.arange(1, len(corners) + 1, device=corners.device)
        return cls(corners, kinds, ids, torch.zeros_like(ids, dtype=torch.bool))


@dataclass(frozen=True)
class Detections(_Parallel):
    """Found objects of one image, in its voxels.

    Attributes:
        boxes: `(n, 2, d)` float32.
        scores: `(n,)` float32 in 0..1.
        labels: `(n,)` int64, index into the classes.
        geometry: of the image the boxes refer to, where known.
        masks: `(n, *g)`, where asked for: how probably the middle of each cell of a regular grid over the box belongs
            to the object; `boxel.ops.paste_mask` makes voxels of it.
    """

    boxes: Any
    scores: Any
    labels: Any
    geometry: Geometry | None = None
    masks: Any = None

    @classmethod
    def empty(cls, ndim: int, geometry: Geometry | None = None) -> Self:
        return cls(np.zeros((0, 2, ndim), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), geometry)


@dataclass(frozen=True)
class RawDetections(_Parallel):
    """Every box of every view of one image, before consolidation, in the voxels of the prepared image.

    Attributes:
        views: `(n,)` int64, which view (checkpoint x mirror) gave the box.
        tiles: `(n,)` int64, which tile gave it.
        weights: `(n,)` float32, the patch-centre factor p of weighted box clustering.
        coverage: `(n,)` float32, mean number of tiles that cover the box.
        num_views: views per voxel that were run.
        slice_axes: leading axes along which each box is one slice thick, as slice-wise models give them.
        masks: as in `Detections`.
    """

    boxes: Any
    scores: Any
    labels: Any
    views: Any
    tiles: Any
    weights: Any
    coverage: Any
    num_views: int = 1
    slice_axes: int = 0
    masks: Any = None


@dataclass(frozen=True)
class Sample:
    """One training patch: `image (c, *s)`, `label_map (*s)` of instance ids, and the objects in patch voxels.

    `ignored (k, 2, d)` are regions to learn nothing from, neither object nor background.
    """

    image: Any
    label_map: Any
    instances: Instances
    ignored: Any
    case: str = ""


@dataclass(frozen=True)
class Batch:
    """Images of a training step, with their objects.

    Attributes:
        images: `(b, c, *s)`.
        label_maps: `(b, *s)` of instance ids; None where no object has a mask: models then leave out what they would
            learn from masks.
        instances: the objects of each image, as tensors.
        cases: where each image comes from.
        ignored: `(k, 2, d)` per image, regions that are excluded from training; or nothing at all.
    """

    images: Any
    label_maps: Any = None
    instances: list[Instances] = field(default_factory=list)
    cases: tuple[str, ...] = ()
    ignored: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.label_maps is None and any(bool(one.has_mask.any()) for one in self.instances):
            raise ValueError("a batch whose instances have masks needs label_maps; or set their has_mask to False")


class Split(Config):
    """Ids of the cases to train, validate and test on: one fold."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


class Normalisation(Config):
    """How one channel becomes numbers around zero.

    `ct`: clip to lower..upper, subtract `mean`, divide by `std` (all of the data set's objects and their surroundings).
    `z_score`: each image by its own mean and standard deviation. `none`: unchanged.
    """

    kind: Literal["ct", "z_score", "none"] = "z_score"
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class Task(Config):
    """What the data dictates: measured by the fingerprint, completed by the plan's rules, kept as `task.json`.

    Attributes:
        ndim: spatial axes of the model. Smaller than the images' for slice-wise models.
        channels: names of the image channels (modalities), in file order.
        classes: names of the object classes.
        spacing: mm per voxel that images are resampled to, array order.
        normalisation: one rule per channel.
        patch_size: voxels per axis that a training step sees; inference tiles have it too.
        batch_size: patches per training step.
        strides: per stage C1, C2, ... of the backbone, the stride of each axis relative to the stage before.
        levels: the pyramid levels that detect; level `k` is the output of stage Ck.
        anchors: per level, the anchor sizes (voxels, one number per axis) at every position.
        context: neighbouring slices on either side that a slice-wise model sees as further channels.
        max_detections: most detections kept per image.
        masks: some objects have masks; else nothing learns to segment.
        why: a sentence for each choice above.
    """

    name: str
    ndim: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    spacing: tuple[float, ...]
    normalisation: tuple[Normalisation, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    strides: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]
    anchors: tuple[tuple[tuple[float, ...], ...], ...]
    context: int = 0
    max_detections: int = 100
    masks: bool = True
    why: dict[str, str] = {}

    @property
    def input_channels(self) -> int:
        """Channels that the model sees: the images', each with its neighbouring slices."""
        return len(self.channels) * (2 * self.context + 1)

    @property
    def level_strides(self) -> tuple[tuple[int, ...], ...]:
        """Voxels per cell of each detecting level, per axis."""
        total = np.cumprod(np.asarray(self.strides, dtype=int), axis=0)
        return tuple(tuple(int(s) for s in total[level - 1]) for level in self.levels)
