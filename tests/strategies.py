"""What hypothesis draws: sets of boxes with scores and labels, of either rank, also empty."""

from dataclasses import dataclass
from typing import Self

import torch
from hypothesis import strategies as st
from torch import Tensor

RANKS = st.sampled_from([2, 3])


@dataclass(frozen=True)
class Scored:
    """Boxes `(n, 2, d)` with corners on quarter voxels, so sums are exact; scores all different."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __getitem__(self, rows: Tensor) -> Self:
        return type(self)(self.boxes[rows], self.scores[rows], self.labels[rows])

    def with_boxes(self, boxes: Tensor) -> Self:
        return type(self)(boxes, self.scores, self.labels)


@st.composite
def box_sets(draw, ndim=RANKS, *, min_boxes: int = 0, max_boxes: int = 14, smallest: int = 1) -> Tensor:
    """`(n, 2, d)` float32 in 0..16, extents from `smallest` quarters of a voxel; crowded."""
    rank = ndim if isinstance(ndim, int) else draw(ndim)
    count = draw(st.integers(min_boxes, max_boxes))
    numbers = st.lists(st.integers(0, 32), min_size=count * rank, max_size=count * rank)
    extents = st.lists(st.integers(smallest, 32), min_size=count * rank, max_size=count * rank)
    lower = torch.tensor(draw(numbers), dtype=torch.float32).reshape(count, rank)
    extent = torch.tensor(draw(extents), dtype=torch.float32).reshape(count, rank)
    return torch.stack([lower, lower + extent], 1) / 4


@st.composite
def scored_boxes(draw, ndim=RANKS, **sizes: int) -> Scored:
    """Boxes with scores in 0..1, all different, and two labels."""
    boxes = draw(box_sets(ndim, **sizes))
    ranks = draw(st.permutations(range(len(boxes))))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes)))
    scores = (torch.tensor(ranks, dtype=torch.float32) + 1) / (len(boxes) + 1)
    return Scored(boxes, scores, torch.tensor(labels, dtype=torch.long))


def permutations_of(draw, count: int) -> Tensor:
    return torch.tensor(draw(st.permutations(range(count))), dtype=torch.long)
