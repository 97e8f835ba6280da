"""Compilation of kernels."""

import inspect
from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call and keep the code on disk if a folder is writable; runs without the lock of Python.

    A division by 0 gives what it gives in numpy: a check of each would keep loops from the vector units.
    """
    function = inspect.unwrap(function)  # the shape checks of the tests wrap it in code that numba cannot compile
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        return numba.njit(nogil=True, error_model="numpy")(function)
