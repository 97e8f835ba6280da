"""Sets of objects as columns: arrays of numpy or torch that share their first axis."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Self, cast

import numpy as np
from typing_extensions import TypeVar

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

# The kind of array in a set of objects: `Detections` holds numpy arrays, `Detections[Tensor]` tensors.
A = TypeVar("A", bound="np.ndarray | Tensor", default=np.ndarray)
B = TypeVar("B", bound="np.ndarray | Tensor")


@cache  # there may be very many small sets
def _names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


class Columns(Generic[A]):
    """The base of dataclasses whose array fields share their first axis, that of `boxes`."""

    boxes: A

    def __len__(self) -> int:
        return len(self.boxes)

    def _arrays(self) -> dict[str, A]:
        kind: Any = type(self)
        return {name: value for name in _names(kind) if hasattr(value := getattr(self, name), "dtype")}

    def __getitem__(self, index: "slice | np.ndarray | np.bool_ | Tensor") -> Self:
        """The rows chosen by a slice, a boolean mask or an index array."""
        return self._replace(lambda value: value[index])  # type: ignore[index]

    def __post_init__(self) -> None:
        if tuple(self.boxes.shape[1:-1]) != (2,):
            raise ValueError(f"boxes must have shape (n, 2, ndim), got {tuple(self.boxes.shape)}")
        for name, value in self._arrays().items():
            if len(value) != len(self.boxes):
                raise ValueError(f"{name} has {len(value)} rows but there are {len(self.boxes)} boxes")

    def _replace(self, function: Callable[[A], object]) -> Self:
        return replace(self, **{name: function(value) for name, value in self._arrays().items()})  # type: ignore[type-var]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All rows of `parts` (at least one), in order; other fields are those of the first."""
        if isinstance(parts[0].boxes, np.ndarray):
            join = cast(Callable[[list[A]], object], np.concatenate)
        else:
            import torch

            join = cast(Callable[[list[A]], object], torch.cat)
        columns = [part._arrays() for part in parts]
        joined = {name: join([arrays[name] for arrays in columns]) for name in columns[0]}
        return replace(parts[0], **joined)  # type: ignore[type-var]


def check_objects(boxes: "np.ndarray | Tensor", labels: "np.ndarray | Tensor", ndim: int | None = None) -> None:
    """Boxes `(n, 2, d)`, finite, lower corner first; labels `(n,)`, class indices.

    Raises:
        ValueError: names what is wrong, and the first row that is.
    """
    boxes, labels = cast("Tensor", boxes), cast("Tensor", labels)  # numpy answers all that follows alike

    def refuse(wrong: "Tensor", name: str, values: "Tensor", rule: str) -> None:
        if wrong.any():
            row = wrong.tolist().index(True)
            raise ValueError(f"{name} {rule}, got {values[row].tolist()} in row {row}")

    if tuple(boxes.shape) == (0,):
        raise ValueError("boxes is empty and has no number of axes; give ndim, or an array of shape (0, 2, ndim)")
    if tuple(boxes.shape[1:-1]) != (2,) or (ndim is not None and boxes.shape[-1] != ndim):
        raise ValueError(
            f"boxes must have shape (n, 2, {ndim or 'ndim'}), lower and upper corner in array order, "
            f"got {tuple(boxes.shape)}"
        )
    if tuple(labels.shape) != (len(boxes),):
        raise ValueError(f"labels must have shape ({len(boxes)},), one per box, got {tuple(labels.shape)}")
    refuse(~(abs(boxes) < math.inf).all((1, 2)), "boxes", boxes, "must be finite")
    refuse(~(boxes[:, 0] <= boxes[:, 1]).all(1), "boxes", boxes, "must have the lower corner first")
    kind = str(labels.dtype).removeprefix("torch.").rstrip("0123456789")
    if len(labels) and kind not in ("int", "uint"):
        raise ValueError(f"labels must be class indices (integers), got {kind} numbers")
    if kind == "int":
        refuse(labels < 0, "labels", labels, "must be class indices, 0 or more")


def object_tensors(
    boxes: "ArrayLike | Tensor", labels: "ArrayLike | Tensor", ndim: int | None
) -> "tuple[Tensor, Tensor, Tensor]":
    """Boxes `(n, 2, d)`, labels and numbers from 1 as tensors; raises as `check_objects`."""
    import torch

    corners = torch.as_tensor(boxes, dtype=torch.float32)
    if ndim is not None and not corners.numel():
        corners = corners.reshape(0, 2, ndim)
    classes = torch.as_tensor(labels, device=corners.device)
    check_objects(corners, classes, ndim)
    return corners, classes.long(), torch.arange(1, len(corners) + 1, device=corners.device)
