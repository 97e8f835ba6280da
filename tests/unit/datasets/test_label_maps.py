"""The boxes of the objects in a label map, whatever its numbers are."""

import numpy as np
import pytest

from boxel.datasets.label_maps import tight_boxes


def boxes_one_by_one(label_map):
    ids = [number for number in np.unique(label_map).tolist() if number]
    places = [np.argwhere(label_map == number) for number in ids]
    return ids, [[place.min(axis=0).tolist(), (place.max(axis=0) + 1).tolist()] for place in places]


@pytest.mark.parametrize("shape", [(17, 12), (5, 17, 12)])
@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [(bool, [1]), (np.uint8, [1, 2, 255]), (np.uint16, [7, 60_000]), (np.int32, [3, 5]), (np.int32, [2**31 - 1, 4]),
     (np.int64, [-3, 1, 90]), (np.dtype(">i2"), [1, 300]), (np.float32, [1, 6]), (np.uint8, [])],
)  # fmt: skip
def test_boxes_are_tight(dtype, numbers, shape, rng):
    label_map = np.zeros(shape, dtype)
    for number in numbers:
        label_map[tuple(rng.integers(0, n, 4) for n in shape)] = number
    for view in (label_map, label_map[..., ::-1], label_map.swapaxes(-1, -2)):
        ids, boxes = tight_boxes(view)
        expected_ids, expected_boxes = boxes_one_by_one(view)
        assert ids.tolist() == expected_ids
        assert boxes.tolist() == expected_boxes
        assert (ids.dtype, boxes.dtype, boxes.shape) == (np.int64, np.float32, (len(ids), 2, len(shape)))
