"""The floating type that operators compute in, for boxes of any number type.

The rule for a set of boxes is

- float32 and float64 stay as they are;
- float16, bfloat16 and smaller floats become float32: float16 ends at 65504, too little for an area;
- integers of 8 bits become float32, longer ones float64: coordinates, and volumes of boxes in 3D, are exact up to 2^53.

Of several sets, one in float32 or float64 decides for those that are in neither.
"""

from functools import reduce

import torch
from torch import Tensor

_KEPT = (torch.float32, torch.float64)


def as_float(values: Tensor) -> Tensor:
    """The values in the type that is computed in; no copy if they have it."""
    return values if values.dtype in _KEPT else values.to(_working_type(values))


def as_floats(*sets: Tensor) -> tuple[Tensor, ...]:
    """Several sets in types that are computed in, one in float32 or float64 deciding for the others.

    Sets that have these types are left alone, even if the types differ: torch promotes them.
    """
    given = [values.dtype for values in sets if values.dtype in _KEPT]
    if len(given) == len(sets):
        return sets
    dtype = reduce(torch.promote_types, given or map(_working_type, sets))
    return tuple(values if values.dtype in _KEPT else values.to(dtype) for values in sets)


def _working_type(values: Tensor) -> torch.dtype:
    dtype = values.dtype
    return dtype if dtype in _KEPT else torch.float64 if _is_long_integer(dtype) else torch.float32


def _is_long_integer(dtype: torch.dtype) -> bool:
    return not dtype.is_floating_point and dtype.itemsize > 1
