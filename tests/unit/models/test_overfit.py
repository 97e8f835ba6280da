"""Every model learns eight images by heart, in 2D, in 2D with context and in 3D, and is the same after a reload."""

import numpy as np
import pytest
import torch

from boxel.evaluation import evaluate
from boxel.models import Model, ModelConfig
from boxel.training.checkpoints import load_weights, save_tensors
from boxel.types import Batch, Task
from tests.unit.builders import MODELS, make_batch, make_task

WIDTHS = (5, 9)


@pytest.fixture(params=["2d", "2dc", "3d"])
def task(request: pytest.FixtureRequest) -> Task:
    ndim = int(request.param[0])
    return make_task(
        ndim,
        size=16,
        strides=((2,) * ndim,) * 2,
        levels=(1, 2),
        anchors=tuple(((width,) * ndim,) for width in map(float, WIDTHS)),
        context=3 if request.param.endswith("c") else 0,
    )


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_model_learns_eight_images_by_heart_and_keeps_them(task: Task, config: ModelConfig, tmp_path):
    torch.manual_seed(0)
    batch = make_batch(task, 8, widths=WIDTHS)
    model = config.build(task)
    assert learn(model, batch, task) == 1.0
    save_tensors(tmp_path / "weights.safetensors", model.state_dict())
    loaded = config.build(task)
    load_weights(loaded, tmp_path / "weights.safetensors")
    with torch.inference_mode():
        for one, two in zip(model.eval()(batch.images), loaded.eval()(batch.images), strict=True):
            assert torch.equal(one.boxes, two.boxes)
            assert torch.equal(one.scores, two.scores)
            assert torch.equal(one.labels, two.labels)


def learn(model: Model, batch: Batch, task: Task, steps: int = 300) -> float:
    """AP@0.10 on the batch that was trained on, after at most so many steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(1, steps + 1):
        loss = torch.stack(list(model.train()(batch.images, batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 20 == 0 and (precision := average_precision(model, batch, task)) == 1.0:
            break
    return precision


def average_precision(model: Model, batch: Batch, task: Task) -> float:
    with torch.inference_mode():
        found = model.eval()(batch.images)
    predictions = {str(case): one.map(np.asarray) for case, one in enumerate(found)}
    truths = {str(case): one.map(np.asarray) for case, one in enumerate(batch.instances)}
    return evaluate(predictions, truths, classes=task.classes, num_resamples=0).metrics["AP@0.10"]
