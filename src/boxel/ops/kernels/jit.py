"""How kernels are compiled."""

import inspect
from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; kept on disk where a directory can be written; without Python's lock."""
    function = inspect.unwrap(function)  # shape checks of the tests wrap it in what numba cannot compile
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        return numba.njit(nogil=True)(function)
