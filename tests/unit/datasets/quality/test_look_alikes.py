"""Images that look alike, and label maps that are turned: the quick ways find what the definitions say."""

import numpy as np
import pytest

from boxel.datasets.quality import near_duplicates as module
from boxel.datasets.quality.near_duplicates import ALIKE, near_duplicates
from boxel.datasets.quality.orientation import _gradients, _moved, turns


@pytest.fixture
def hashes(rng):
    originals = rng.random((30, 256)) < 0.4
    copies = originals[rng.integers(0, 30, 60)] ^ (rng.random((60, 256)) < 0.02)
    return [None, *originals, None, *copies]


@pytest.mark.parametrize("block", [7, 1000])
def test_pairs_are_those_with_enough_bits_in_common(hashes, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    pairs = [
        (a, b)
        for a, one in enumerate(hashes)
        for b, other in enumerate(hashes)
        if a < b and one is not None and other is not None and (one & other).sum() >= ALIKE * (one | other).sum()
    ]
    assert len(pairs) > 20
    assert near_duplicates(hashes) == pairs


def test_at_most_so_many_pairs_are_found(hashes, monkeypatch):
    every = near_duplicates(hashes)
    monkeypatch.setattr(module, "MOST_PAIRS", 5)
    assert near_duplicates(hashes) == every[:5]


@pytest.mark.parametrize("shape", [(40, 40), (30, 41), (12, 12, 12)])
def test_gradients_are_the_same_everywhere_at_once_and_at_each_point(shape, rng):
    array = rng.integers(0, 255, (2, *shape)).astype(np.uint8)
    points = np.stack([rng.integers(0, size, (5, array[0].size)) for size in shape], axis=-1)
    together = _gradients(array, points)
    apart = [_gradients(array, points[:, k : k + 8]) for k in range(0, points.shape[1], 8)]
    weights = [min(8, points.shape[1] - k) for k in range(0, points.shape[1], 8)]
    np.testing.assert_allclose(together, np.average(apart, axis=0, weights=weights), rtol=1e-12)


@pytest.mark.parametrize("shape", [(9, 9), (9, 11), (6, 6, 6), (5, 6, 6)])
def test_a_turn_moves_points_as_numpy_turns_the_array(shape, rng):
    marked = rng.random(shape) < 0.2
    every = turns(tuple(map(shape.index, shape)))
    assert len(every) == {(9, 9): 8, (9, 11): 4, (6, 6, 6): 48, (5, 6, 6): 16}[shape]
    for (order, reverse), points in zip(every, _moved(np.argwhere(marked), every, shape), strict=True):
        turned = np.flip(marked.transpose(order), np.flatnonzero(reverse).tolist())
        assert turned.shape == shape
        assert set(map(tuple, points.tolist())) == set(map(tuple, np.argwhere(turned).tolist()))
