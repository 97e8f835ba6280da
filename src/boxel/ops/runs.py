"""Boxes sorted into independent runs, each with a tree that finds overlaps, for the compiled kernels."""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from boxel.ops.arrays import kernels
from boxel.ops.threads import share

LEAST = 4000
"""Boxes that a thread is worth, where each looks for what it overlaps: fewer are done sooner than a thread wakes."""

LEAST_SUMMED = 10 * LEAST
"""The same where each is only added to something."""


class Runs(NamedTuple):
    """Independent runs of boxes; see `kernels.forest`.

    Attributes:
        forest: the trees.
        place: rows by run, within a run along a space-filling curve.
        slot: the position of each row in `place`.
        begins: where in `place` each run begins, and the end.
        first_node: the first node of the tree of each run.
        by_score: rows by run, within a run by descending score.
    """

    forest: tuple[np.ndarray, ...]
    place: np.ndarray
    slot: np.ndarray
    begins: np.ndarray
    first_node: np.ndarray
    by_score: np.ndarray


def plant(compiled: ModuleType | Any, boxes: np.ndarray, numbers: np.ndarray, order: np.ndarray) -> Runs:
    """Sort boxes into runs of equal numbers and build a tree for each run.

    Args:
        compiled: the kernels.
        boxes: `(n, 2, d)`, at least one.
        numbers: `(n,)` from 0, less than a million or n; empty: all boxes are one run.
        order: rows by descending score.
    """
    count, ndim = len(boxes), boxes.shape[2]
    place = compiled.ascending(compiled.curve_keys(boxes, numbers, 30 // ndim))
    begins, by_score = compiled.split(numbers, place, order)
    first_node = compiled.layout(begins)
    nodes, slot = int(first_node[-1]), np.empty(count, np.int32)
    corners = (np.empty((rows, 2, ndim), boxes.dtype) for rows in (count, nodes))
    forest = (*corners, np.empty((nodes, 2), np.int32), np.empty(nodes, np.int32), np.empty(nodes, np.int32))
    share(lambda *part: compiled.plant(boxes, place, begins, first_node, forest, slot, *part), begins, LEAST_SUMMED)
    return Runs(forest, place, slot, begins, first_node, by_score)


def from_zero(numbers: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Renumber: equal numbers stay equal, in the same order, from 0 and below a million or the number of rows."""
    array = numbers.cpu().numpy().astype(np.int64)
    array -= array.min() if len(array) else 0
    if array.max(initial=0) >= 1 << 20:
        array = np.unique(array, return_inverse=True)[1]
    return torch.from_numpy(array).to(numbers.device)


def best_first(scores: Tensor) -> Int[Tensor, " n"]:
    """Rows by descending score, equal ones in their order."""
    compiled = kernels(scores)
    if not compiled or scores.dtype is not torch.float32:
        return scores.argsort(descending=True, stable=True).int()
    bits = (scores.detach().contiguous().numpy() + 0.0).view(np.uint32)  # + 0 makes one zero of the two
    # A float32's bits are ordered like an integer's, but backwards below zero, where the sign bit is set.
    np.bitwise_xor(bits, np.uint32((1 << 31) - 1), out=bits, where=bits < 1 << 31)
    return torch.from_numpy(compiled.ascending(bits))
