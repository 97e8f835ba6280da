"""Dense heads see in prediction what they saw in training, on every level of the pyramid."""

import pytest
import torch

from boxel.nn.heads import DenseHead

LEVELS = ((24, 0.1), (12, 5.0), (6, 40.0))  # cells per axis, and how strong the features are


def head(ndim, norm):
    torch.manual_seed(0)
    return DenseHead(
        ndim, 8, levels=len(LEVELS), filters=16, num_convs=2, norm=norm, num_anchors=2, outputs=(3,), kernel_size=1
    )


def pyramid(ndim, seed):
    generator = torch.Generator().manual_seed(seed)
    cells = (int(c ** (2 / ndim)) for c, _ in LEVELS)
    return [k * torch.randn((4, 8) + (c,) * ndim, generator=generator) for c, (_, k) in zip(cells, LEVELS, strict=True)]


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
def test_levels_of_different_strength_give_the_same_numbers_in_prediction_as_in_training(ndim, norm):
    """Running statistics of all levels together would be those of none: here the mean error would be 0.6 or more."""
    model = head(ndim, norm).train()
    with torch.no_grad():
        for seed in range(60):
            model(pyramid(ndim, seed))
        [trained] = model(pyramid(ndim, 99))
        [predicted] = model.eval()(pyramid(ndim, 99))
    assert (predicted - trained).abs().mean() < 0.25 * trained.abs().mean()


def test_only_batch_norms_belong_to_a_level(ndim):
    assert len(head(ndim, "batch").norms) == len(LEVELS) - 1
    assert all(not head(ndim, norm).norms for norm in ("group", "instance", "none"))
