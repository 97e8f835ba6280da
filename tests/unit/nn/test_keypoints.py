"""Key points: heat maps of eq. (1) of L-SNet by hand, and distances from cells to the faces of their objects."""

import itertools

import numpy as np
import pytest
import torch

from boxel.nn.keypoints import boxes_at, distances, heat_map, nearest_object, positions

STRIDE = 4
PAPER = {"delta": 20, "beta": 2}


def box_around(*middles: float, edge: float = 6.0) -> torch.Tensor:
    """A box `(1, 2, d)` around a centre in image voxels."""
    middle = torch.tensor(middles)
    return torch.stack([middle - edge / 2, middle + edge / 2])[None]


def cell_centre(*cells: float) -> tuple[float, ...]:
    """A cell's centre at stride 4, as the paper has it: 4 j + 2."""
    return tuple(4 * j + 2 for j in cells)


def cells_of(ndim: int, size: int = 20) -> tuple[int, ...]:
    """A grid whose axes differ, so that no two can be exchanged."""
    return tuple(size + axis for axis in range(ndim))


@pytest.mark.parametrize(
    ("offset", "expected"),
    [((0, 0), 1.0), ((2, 2), 1.0), ((5, 0), 0.7985), ((0, 5), 0.7985), ((7, 7), 0.2865), ((7.27, 0), 0.4994)],
)
def test_the_heat_falls_with_the_distance_as_in_the_paper(ndim, offset, expected):
    """With delta 20 and beta 2: exp(-(3^2) / 40), exp(-(5^2 + 5^2) / 40), exp(-(5.27^2) / 40) = 0.50."""
    cell = (8,) * ndim
    away = (0.0,) * (ndim - 2) + offset
    boxes = box_around(*cell_centre(*np.subtract(cell, away)))
    assert heat_map(boxes, cells_of(ndim), STRIDE, **PAPER)[cell].item() == pytest.approx(expected, abs=1e-4)


def test_cells_up_to_29_voxels_from_a_centre_are_positive(ndim):
    cell = (10,) * ndim
    for voxels, positive in ((29.0, True), (29.2, False)):
        middle = np.array(cell_centre(*cell))
        middle[-1] -= voxels
        heat = heat_map(box_around(*middle), cells_of(ndim), STRIDE, **PAPER)
        assert (heat[cell] >= 0.5).item() is positive


def test_the_heat_of_several_objects_adds_up_to_one_at_most(ndim):
    shape, cells = cells_of(ndim), ((8,) * ndim, (8,) * (ndim - 1) + (14,))
    one, other = (heat_map(box_around(*cell_centre(*cell)), shape, STRIDE, **PAPER) for cell in cells)
    both = heat_map(torch.cat([box_around(*cell_centre(*cell)) for cell in cells]), shape, STRIDE, **PAPER)
    between = (8,) * (ndim - 1) + (1,)  # 7 and 13 cells from the centres
    assert both[between].item() == pytest.approx(np.exp(-25 / 40) + np.exp(-121 / 40), abs=1e-6)
    assert both[cells[0]] == 1  # 1 + exp(-16 / 40) without the limit
    torch.testing.assert_close(both, (one + other).clamp(max=1))


def test_the_heat_map_equals_the_formula_at_every_cell(ndim, rng):
    """Strides, widths and plateaus differ between the axes; a plain sum over cells and objects is the reference."""
    shape = (5, 4, 6)[:ndim]
    stride, delta, beta = (np.array(values[:ndim]) for values in ((2.0, 4.0, 3.0), (5.0, 2.0, 9.0), (0.0, 1.0, 0.5)))
    lower = rng.uniform(0, 10, (3, ndim))
    boxes = np.stack([lower, lower + rng.uniform(1, 8, (3, ndim))], 1)
    expected = np.zeros(shape)
    for cell in itertools.product(*map(range, shape)):
        for middle in boxes.mean(1):
            reach = np.maximum(0, np.abs(cell - (middle / stride - 0.5)) - beta)
            expected[cell] += np.exp(-np.sum(reach**2 / (2 * delta)))
    heat = heat_map(torch.tensor(boxes), shape, stride.tolist(), delta=delta.tolist(), beta=beta.tolist())
    np.testing.assert_allclose(heat, np.minimum(expected, 1), atol=1e-9)


def test_an_image_without_objects_has_no_heat_and_no_nearest_object(ndim):
    boxes, shape = torch.zeros(0, 2, ndim), cells_of(ndim, 3)
    nearest = nearest_object(boxes, shape, STRIDE)
    assert torch.equal(heat_map(boxes, shape, STRIDE, **PAPER), torch.zeros(shape))
    assert torch.equal(nearest, torch.full(shape, -1))
    assert torch.equal(distances(boxes, nearest, STRIDE), torch.zeros(*shape, 2, ndim))


def test_each_cell_belongs_to_the_object_with_the_nearest_centre(ndim):
    """Centres at cells 2 and 7 of the last axis: the border is at 4.5; the size of a box is of no account."""
    ends = [cell_centre(*(3,) * (ndim - 1), last) for last in (7, 2)]
    boxes = torch.cat([box_around(*ends[0], edge=30), box_around(*ends[1], edge=2)])
    nearest = nearest_object(boxes, (*(6,) * (ndim - 1), 10), STRIDE)
    assert (nearest == torch.tensor([1] * 5 + [0] * 5)).all()


def test_of_anisotropic_cells_the_nearest_centre_counts_in_voxels(ndim):
    """From cell (1, ...) the first centre is one cell of 8 voxels away, the second two cells of 1 voxel."""
    stride = (8.0,) + (1.0,) * (ndim - 1)
    boxes = torch.cat([box_around(4.0, *(1.5,) * (ndim - 1)), box_around(12.0, *(3.5,) * (ndim - 1))])
    assert nearest_object(boxes, (2, *(4,) * (ndim - 1)), stride)[(1, *(1,) * (ndim - 1))] == 1


def test_distances_reach_from_a_cell_to_the_faces_of_its_object(ndim):
    """Cell 5 is at voxel 22: inside 10..30 by 12 and 8, and 4 beyond 10..18."""
    boxes = torch.tensor([[[10.0] * ndim, [30.0] * (ndim - 1) + [18.0]]])
    shape = (8,) * ndim
    reach = distances(boxes, nearest_object(boxes, shape, STRIDE), STRIDE)[(5,) * ndim]
    assert reach.tolist() == [[12.0] * ndim, [8.0] * (ndim - 1) + [-4.0]]


def test_boxes_come_back_from_distances(ndim, rng):
    lower = rng.uniform(0, 30, (4, ndim))
    boxes = torch.tensor(np.stack([lower, lower + rng.uniform(1, 20, (4, ndim))], 1), dtype=torch.float32)
    shape = (6,) * ndim
    nearest = nearest_object(boxes, shape, STRIDE)
    places = positions(shape, STRIDE, boxes)
    assert places[(1,) * ndim].tolist() == [6.0] * ndim
    torch.testing.assert_close(boxes_at(places, distances(boxes, nearest, STRIDE)), boxes[nearest])
