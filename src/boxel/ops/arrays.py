"""One implementation for numpy and torch, and the compiled kernels where they apply."""

from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def numpy_too(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of tensors accept numpy arrays as well; it then returns numpy arrays."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not any(map(_has_numpy, (*args, *kwargs.values()))):
            return function(*args, **kwargs)
        given: Any = {key: _to_torch(value) for key, value in kwargs.items()}
        return _to_numpy(function(*map(_to_torch, args), **given))

    return call


def kernels(*tensors: Tensor) -> ModuleType | None:
    """The compiled kernels if the tensors are on the CPU and numba is installed, else None."""
    return _compiled() if all(tensor.device.type == "cpu" for tensor in tensors) else None


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Return `values[rows]`; on the CPU by numpy, as torch wakes its threads, which is slow on a busy machine."""
    if values.device.type != "cpu":
        return values[rows]
    return torch.from_numpy(values.detach().numpy()[rows.numpy()])


@cache
def _compiled() -> ModuleType | None:
    try:
        import boxel.ops.kernels
    except ImportError:
        return None
    return boxel.ops.kernels


def _has_numpy(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, list | tuple) and any(map(_has_numpy, value)))


def _to_torch(value: Any) -> Any:
    if isinstance(value, list | tuple) and _has_numpy(value):
        return [_to_torch(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    if not value.dtype.isnative or value.dtype.char == "g":  # torch has neither foreign byte orders nor long doubles
        value = value.astype(np.float64 if value.dtype.char == "g" else value.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(value) if value.flags.writeable else value.copy())


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, tuple):
        parts = [_to_numpy(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
