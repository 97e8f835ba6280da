"""A YOLOv4 with Darknet's weights computes what Darknet's layers do; a file of another network is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from boxel.api.training import pretrained_parts
from boxel.models import CSPDarknetConfig, PANConfig, PyramidGrid, YOLOHeadsConfig, YOLOv4, YOLOv4Config
from boxel.nn.pretrained.darknet import count
from tests.unit.builders import make_task
from tests.unit.models.test_yolov4 import DARKNET
from tests.unit.nn import darknet

GRID = {"strides": ((2, 2),) * 5, "levels": (3, 4, 5), "anchors": tuple(tuple(map(tuple, level)) for level in DARKNET)}
WIDTH = 1 / 16
NARROW = CSPDarknetConfig(width=WIDTH)
HEADS = 138, 149, 160


def task(classes: int = 80, channels: int = 3, ndim: int = 2, **grid):
    grid = {**GRID, **grid}
    if ndim != 2:
        grid = {"strides": ((2,) * ndim,) * 5, "levels": (3, 4, 5), "anchors": (((8.0,) * ndim,) * 3,) * 3}
    names = tuple(f"class {k}" for k in range(classes))
    own = {"channels": tuple("rgb"[:channels]), "normalisation": make_task(2).normalisation * channels}
    return make_task(ndim, names, **own, **grid)


def config(file: Path, **parts: object) -> YOLOv4Config:
    return YOLOv4Config(backbone=NARROW, weights=str(file)).model_copy(update=parts)


def start(file: Path, of=None, **parts: object):
    """What a training takes from the file, and the network that it starts with."""
    own, of = config(file, **parts), of or task()
    torch.manual_seed(0)
    model = own.build(of)
    [found] = pretrained_parts(own, of).values()
    model.load_state_dict({**model.state_dict(), **found.state})
    return found, model.eval()


@torch.no_grad()
def test_a_whole_network_predicts_the_boxes_of_darknet(tmp_path):
    content = darknet.random_file(darknet.YOLOV4, tmp_path / "w.weights", width=WIDTH)
    found, model = start(tmp_path / "w.weights")
    assert found.state.keys() == {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert re.fullmatch(r"detector from .*w\.weights: \d+ tensors of a YOLOv4 of Darknet", str(found))
    images = torch.rand(1, 3, 64, 96)
    outputs = model.infer(images)
    boxes, scores = [], []
    layers = darknet.run(darknet.YOLOV4, content, images, width=WIDTH)
    for place, stride, scale, anchors in zip(HEADS, (8, 16, 32), (1.2, 1.1, 1.05), DARKNET, strict=True):
        numbers = layers[place][0]
        for y in range(numbers.shape[1]):
            for x in range(numbers.shape[2]):
                for anchor, (height, width) in enumerate(anchors):
                    tx, ty, tw, th, *others = numbers[85 * anchor : 85 * (anchor + 1), y, x]
                    bx = (scale * tx.sigmoid() - (scale - 1) / 2 + x) * stride
                    by = (scale * ty.sigmoid() - (scale - 1) / 2 + y) * stride
                    bw, bh = width * tw.exp(), height * th.exp()
                    boxes.append(torch.stack([by - bh / 2, bx - bw / 2, by + bh / 2, bx + bw / 2]).reshape(2, 2))
                    scores.append(torch.stack(others))
    ours = outputs.numbers[0]
    torch.testing.assert_close(ours[:, 4:], torch.stack(scores), rtol=1e-3, atol=1e-3 * ours.abs().max().item())
    near = ours[:, 2:4].amax(1) < 4  # the growth of a box is limited
    decoded = outputs.anchors.decode(outputs.numbers)[0]
    assert near.float().mean() > 0.25
    torch.testing.assert_close(decoded[near], torch.stack(boxes)[near], rtol=2e-3, atol=0.5)


@pytest.mark.parametrize(
    ("layers", "name", "classes", "fresh", "remark"),
    [
        (darknet.YOLOV4, "w.weights", 8, r"heads\.\d\.numbers\.", "last layers for 80 classes in the file, 8 here"),
        (darknet.TO_137, "w.conv.137", 80, r"neck\.up\.|heads\.", "the way up and the heads, behind layer 137"),
    ],
    ids=["other classes", "first 137 layers"],
)
def test_layers_that_the_file_has_not_start_at_random(layers, name, classes, fresh, remark, tmp_path):
    darknet.random_file(layers, tmp_path / name, width=WIDTH)
    found, model = start(tmp_path / name, task(classes, channels=1))
    assert found.remarks == ("input channels 3 -> 1", f"{remark}: random at the start")
    missing = {key for key in model.state_dict().keys() - found.state.keys() if "num_batches" not in key}
    assert missing == {key for key in model.state_dict() if re.match(fresh, key) and "num_batches" not in key}


def test_the_published_files_fit_the_defaults():
    """257,717,640 and 170,038,676 bytes, with headers of 20, as those of the tests' layers."""
    with torch.device("meta"):
        model = YOLOv4(2, 3, 80, grid=PyramidGrid.default(2, levels=(3, 4, 5)))
    assert 4 * count(model) + 20 == 257_717_640


@pytest.mark.parametrize(
    ("layers", "name", "parts", "of", "says"),
    [
        (darknet.BACKBONE, "w.weights", {}, {}, "a backbone without a neck; for the backbone alone"),
        (darknet.YOLOV4, "w.pth", {}, {}, r"no file of Darknet by its name \(\.weights, \.conv\.137\)"),
        (darknet.YOLOV4, "w.weights", {}, {"ndim": 3}, "images of 2 axes, but this model reads 3"),
        (darknet.YOLOV4, "w.weights", {}, {"levels": (2, 4, 5)}, r"plan\.levels=\[3,4,5\], and .* set both, or"),
        (darknet.YOLOV4, "w.weights", {"neck": PANConfig(filters=8)}, {}, "numbers behind the backbone, but"),
        (darknet.YOLOV4, "w.weights", {"dense": YOLOHeadsConfig(norm="none")}, {}, "numbers behind the backbone, but"),
        (darknet.YOLOV4, "w.weights", {"dense": YOLOHeadsConfig(norm="group")}, {}, "numbers behind the backbone, but"),
        (darknet.TO_137, "w.conv.137", {"neck": PANConfig(norm="group")}, {}, "numbers behind the backbone, but"),
        (
            darknet.YOLOV4,
            "w.weights",
            {"backbone": NARROW.model_copy(update={"weights": "b"})},
            {},
            r"leave out model\.backbone\.weights",
        ),
    ],
    ids=["backbone", "name", "axes", "levels", "filters", "norms", "other norms", "norms of the neck", "twice"],
)
def test_what_does_not_fit_is_refused_with_one_message(layers, name, parts, of, says, tmp_path):
    darknet.random_file(layers, tmp_path / name, width=WIDTH)
    with pytest.raises(ValueError, match=says):
        start(tmp_path / name, task(**of), **parts)


def test_a_missing_file_is_named_before_what_the_model_lacks(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        start(tmp_path / "yolov4.weights", task(levels=(2, 4, 5)))


@pytest.mark.parametrize("numbers", [-3, 7])
def test_a_file_with_too_few_or_too_many_numbers_is_refused(numbers, tmp_path):
    content = darknet.random_file(darknet.YOLOV4, tmp_path / "w.weights", width=WIDTH)
    darknet.write(tmp_path / "w.weights", np.resize(content, len(content) + numbers))
    with pytest.raises(ValueError, match=f"{len(content) + numbers} numbers"):
        start(tmp_path / "w.weights")


def test_last_layers_for_another_number_of_anchors_say_so(tmp_path):
    darknet.random_file(darknet.YOLOV4, tmp_path / "w.weights", width=WIDTH)
    found, _ = start(tmp_path / "w.weights", task(anchors=(((8.0, 8.0),),) * 3))
    assert found.remarks == ("last layers for 3 anchors per position in the file, 1 here: random at the start",)


def test_variances_below_zero_are_refused(tmp_path):
    """A file of another network may have a fitting count of numbers."""
    content = darknet.random_file(darknet.YOLOV4, tmp_path / "w.weights", width=WIDTH)
    content[6:8] = -1.0  # the first convolution has two channels: bias, scale, mean, variance
    darknet.write(tmp_path / "w.weights", content)
    with pytest.raises(ValueError, match=r"the variances for \S+running_var are below 0"):
        start(tmp_path / "w.weights")
