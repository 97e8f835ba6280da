"""A Faster R-CNN with torchvision's weights computes what torchvision's does, spelled out here from the file's keys."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from boxel.api.training import pretrained_parts
from boxel.models import FasterRCNN, FasterRCNNConfig, FPNConfig, PyramidGrid, ResNetConfig, RPNConfig
from boxel.nn.pretrained.detectors import pretrained_detector
from boxel.ops import decode
from boxel.preparation.anchors import torchvision_anchors
from boxel.types import Task
from tests.unit.builders import make_task
from tests.unit.nn.weight_files import resnet_features, resnet_state

LEVELS = (2, 3, 4, 5, 6)
ANCHORS = tuple(torchvision_anchors(2, [2.0 ** (level + 3)]) for level in LEVELS)
STAGES = ((2, 2),) * 5
BACKBONE = ResNetConfig(start_filters=8, stride_in="middle", norm="frozen")


def detector_state(classes: int, *, width: int = 8, filters: int = 8, hidden: int = 12, nested: bool = True) -> dict:
    """Every key of torchvision's fasterrcnn_resnet50_fpn, with random values; `nested` names are those from 0.13 on."""
    body = resnet_state((3, 4, 6, 3), bottleneck=True, width=width)
    state = {f"backbone.body.{key}": tensor for key, tensor in body.items() if not key.startswith("fc.")}
    state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    inner = ".0" if nested else ""
    layers = {f"backbone.fpn.inner_blocks.{k}{inner}": (filters, 4 * width * 2**k, 1, 1) for k in range(4)}
    layers |= {f"backbone.fpn.layer_blocks.{k}{inner}": (filters, filters, 3, 3) for k in range(4)}
    layers[f"rpn.head.conv{'.0.0' if nested else ''}"] = (filters, filters, 3, 3)
    layers |= {"rpn.head.cls_logits": (3, filters, 1, 1), "rpn.head.bbox_pred": (12, filters, 1, 1)}
    layers |= {"roi_heads.box_head.fc6": (hidden, filters * 49), "roi_heads.box_head.fc7": (hidden, hidden)}
    layers["roi_heads.box_predictor.cls_score"] = (classes + 1, hidden)
    layers["roi_heads.box_predictor.bbox_pred"] = (4 * (classes + 1), hidden)
    for name, shape in layers.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape) * 0.02, torch.randn(shape[0]) * 0.02
    return state


def config(file: Path, **changes: object) -> FasterRCNNConfig:
    own = FasterRCNNConfig()
    narrow = {
        "backbone": BACKBONE,
        "neck": FPNConfig(filters=8, extra="pool"),
        "rpn": own.rpn.model_copy(update={"filters": 8}),
        "roi": own.roi.model_copy(update={"filters": 12}),
    }
    return own.model_copy(update={**narrow, "weights": str(file), **changes})


def task(classes: int = 4, ndim: int = 2) -> Task:
    values = {"strides": ((2,) * ndim,) * 5, "levels": LEVELS, "anchors": (((8.0,) * ndim,) * 3,) * 5}
    if ndim == make_task(2).ndim:
        values["anchors"] = ANCHORS
    names = tuple(f"class {k}" for k in range(classes))
    return make_task(ndim, names, channels=("r", "g", "b"), normalisation=make_task(2).normalisation * 3, **values)


@pytest.fixture(params=[True, False], ids=["now", "before 0.13"])
def loaded(request, tmp_path):
    """The tensors of a file by their names before 0.13, and the model that they fill."""
    torch.manual_seed(0)
    state = detector_state(4, nested=request.param)
    torch.save({"model": state}, tmp_path / "w.pth")
    own = config(tmp_path / "w.pth")
    model = own.build(task())
    [found] = pretrained_parts(own, task()).values()
    assert found.state.keys() == model.state_dict().keys()
    assert re.fullmatch(r"detector from .*w\.pth: \d+ tensors of a Faster R-CNN of torchvision", str(found))
    model.load_state_dict(found.state)
    plain = re.compile(r"(inner_blocks\.\d|layer_blocks\.\d|head\.conv)(\.0)+\.")
    return {plain.sub(r"\1.", key): tensor for key, tensor in state.items()}, model.eval()


def pyramid(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    def conv(name: str, x: Tensor) -> Tensor:
        kernel = state[f"backbone.fpn.{name}.weight"]
        return F.conv2d(x, kernel, state[f"backbone.fpn.{name}.bias"], padding=kernel.shape[-1] // 2)

    prefix = "backbone.body."
    body = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    features = resnet_features(body, images, eps=0.0)[1:]
    merged = [conv("inner_blocks.3", features[3])]
    for k in (2, 1, 0):
        lateral = conv(f"inner_blocks.{k}", features[k])
        merged.insert(0, lateral + F.interpolate(merged[0], lateral.shape[2:], mode="nearest"))
    levels = [conv(f"layer_blocks.{k}", x) for k, x in enumerate(merged)]
    return [*levels, F.max_pool2d(levels[-1], 1, 2)]


@torch.no_grad()
def test_every_layer_computes_what_torchvisions_does(loaded):
    state, model = loaded
    images = torch.randn(1, 3, 128, 192)
    outputs = model.infer(images)
    boxes, logits = [], []
    for level, x in enumerate(pyramid(state, images)):
        torch.testing.assert_close(outputs.levels[level], x, rtol=1e-3, atol=1e-3)
        x = F.relu(F.conv2d(x, state["rpn.head.conv.weight"], state["rpn.head.conv.bias"], padding=1))
        names = ("rpn.head.cls_logits", "rpn.head.bbox_pred")
        heads = [F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                for anchor, ratio in enumerate((0.5, 1.0, 2.0)):
                    scale, stride = 32 * 2**level, 4 * 2**level
                    height, width = (2 * round(scale * r**0.5 / 2) for r in (ratio, 1 / ratio))
                    dx, dy, dw, dh = heads[1][0, 4 * anchor : 4 * anchor + 4, row, column]
                    x0, y0 = column * stride + dx * width, row * stride + dy * height
                    w, h = width * dw.exp() / 2, height * dh.exp() / 2
                    boxes.append(torch.stack([y0 - h, x0 - w, y0 + h, x0 + w]).reshape(2, 2))
                    logits.append(heads[0][0, anchor, row, column])
    ours = decode(outputs.rpn.deltas[0], outputs.rpn.anchors, model.rpn.dense.std)
    torch.testing.assert_close(ours, torch.stack(boxes), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(outputs.rpn.logits[0, :, 0], torch.stack(logits), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_box_head_computes_what_torchvisions_does(loaded):
    state, model = loaded
    state = {".".join(key.split(".")[-2:]): tensor for key, tensor in state.items() if "roi_heads" in key}
    pooled = torch.randn(6, 8, 7, 7)
    x = pooled.flatten(1)
    for name in ("fc6", "fc7"):
        x = F.relu(F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"]))
    scores, deltas = (F.linear(x, state[f"{n}.weight"], state[f"{n}.bias"]) for n in ("cls_score", "bbox_pred"))
    dx, dy, dw, dh = deltas.reshape(6, 5, 4).unbind(-1)
    logits, moves = model.roi.head(pooled)
    torch.testing.assert_close(logits, scores)
    torch.testing.assert_close(moves.flatten(2), torch.stack([dy, dx, dh, dw], -1))


def test_variances_of_a_detector_are_used_as_they_are(loaded):
    """Its epsilon is 0, and that of a backbone 1e-5; ours has it in the variance."""
    state, model = loaded
    assert model.encoder.stages[0][1].running_var.equal(state["backbone.body.bn1.running_var"])


def test_the_file_of_torchvision_fits_the_defaults(tmp_path):
    torch.save(detector_state(90, width=64, filters=256, hidden=1024), tmp_path / "w.pth")
    model = FasterRCNN(2, 1, 8, grid=PyramidGrid(STAGES, LEVELS, ANCHORS))
    found = pretrained_detector(tmp_path / "w.pth", model)
    missing = {f"roi.head.{name}.{part}" for name in ("classes", "boxes") for part in ("weight", "bias")}
    assert model.state_dict().keys() - found.state.keys() == missing
    assert all(model.state_dict()[key].shape == tensor.shape for key, tensor in found.state.items())
    last = "last layers for 90 classes in the file, 8 here: random at the start"
    assert found.remarks == (last, "input channels 3 -> 1")


@pytest.mark.parametrize(
    ("state", "changes", "says"),
    [
        (resnet_state, {}, r"no Faster R-CNN of torchvision \(tensors: conv1\.weight"),
        (
            lambda: detector_state(4, hidden=9),
            {},
            r"fc6\.weight: \(9, 392\) in the file, \(12, 392\) in this model; it f",
        ),
        (lambda: detector_state(4) | {"roi_heads.mask": torch.ones(1)}, {}, r"roi_heads\.mask: only in the file"),
        (None, {"rpn": RPNConfig(filters=8)}, r"tower\.0\.1\.bias: only in this model"),
        (None, {"backbone": ResNetConfig(depth=18, norm="frozen")}, r"conv1\.weight: .* in this backbone"),
        (None, {"backbone": BACKBONE.model_copy(update={"weights": "b"})}, r"leave out model\.backbone\.weights"),
    ],
    ids=["backbone", "widths", "mask_rcnn", "norms", "depth", "twice"],
)
def test_what_does_not_fit_is_refused_with_one_message(state, changes, says, tmp_path):
    torch.save(state() if state else detector_state(4), tmp_path / "w.pth")
    own = config(tmp_path / "w.pth", **changes)
    with pytest.raises(ValueError, match=says) as refusal:
        pretrained_parts(own, task())
    assert refusal.value.__cause__ is None


def test_volumes_are_refused_and_may_have_the_backbone(tmp_path):
    torch.save(detector_state(4), tmp_path / "w.pth")
    own, volumes = config(tmp_path / "w.pth"), task(ndim=3)
    says = r"for images of 2 axes, but this model reads 3; for the backbone alone, set model\.backbone\.weights"
    with pytest.raises(ValueError, match=says):
        pretrained_parts(own, volumes)
    backbone = own.backbone.model_copy(update={"weights": str(tmp_path / "w.pth"), "frozen": 2})
    [found] = pretrained_parts(own.model_copy(update={"weights": None, "backbone": backbone}), volumes).values()
    assert "kernels of 2 -> 3 axes" in found.remarks


def test_levels_may_be_frozen_where_the_detector_has_weights(tmp_path):
    torch.save(detector_state(4), tmp_path / "w.pth")
    own = config(tmp_path / "w.pth")
    frozen = own.model_copy(update={"backbone": own.backbone.model_copy(update={"frozen": 2})})
    assert [*pretrained_parts(frozen, task())] == [""]


def test_a_stride_in_another_convolution_is_said(tmp_path):
    torch.save(detector_state(4), tmp_path / "w.pth")
    own = config(tmp_path / "w.pth", backbone=BACKBONE.model_copy(update={"stride_in": "first"}))
    [found] = pretrained_parts(own, task()).values()
    assert found.remarks == ("weights of torchvision or timm need model.backbone.stride_in=middle, this is first",)
