"""Anchors are fitted by Adam without torch's optimisers, which take seconds to import."""

import subprocess
import sys

import pytest
import torch

from boxel.ops.fit import _ascend, _shape_iou


@pytest.mark.parametrize(("number", "anchors"), [(3, 2), (200, 4)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_ascent_is_that_of_adam(number, anchors, ndim):
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand((number, ndim), generator=generator, dtype=torch.float64) * 40 + 2
    start, best, expected = sizes[:anchors].clone(), -1.0, sizes
    logs = start.log().requires_grad_()
    optimiser = torch.optim.Adam([logs], lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, 50)
    for _ in range(50):
        optimiser.zero_grad()
        mean = _shape_iou(sizes, logs.exp()).amax(1).mean()
        if mean.item() > best:
            best, expected = mean.item(), logs.detach().exp()
        (-mean).backward()
        optimiser.step()
        schedule.step()
    found, fitted = _ascend(sizes, start, 50)
    assert found == pytest.approx(best, abs=1e-12)
    torch.testing.assert_close(fitted, expected, rtol=1e-9, atol=0)


def test_the_compiler_of_torch_is_not_imported():
    script = """
import sys, numpy as np
from boxel.ops import fit_anchors
fit_anchors(np.array([[4.0, 4.0], [20.0, 10.0], [9.0, 3.0]]), 2)
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
