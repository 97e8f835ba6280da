"""A backbone with weights from a file computes what the network they come from does; what does not fit is refused."""

import collections
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from boxel.api.training import pretrained_parts
from boxel.config import Config
from boxel.models import ModelConfig
from boxel.nn import ResidualEncoderConfig, ResNetConfig
from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.pretrained import Pretrained, pretrained
from tests.unit.builders import MODELS, make_task
from tests.unit.nn.weight_files import encoder_features, encoder_state, resnet_features, resnet_state

SMALL = {"start_filters": 8, "norm": "batch"}
DEPTHS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}
ENCODER = ResidualEncoderConfig(widths=(4, 8, 8), blocks=(1, 2, 2))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def load(
    config: BackboneConfig, file: Path, axes: int, *, channels: int, levels: int, c0: bool = False
) -> tuple[Backbone, Pretrained]:
    """The backbone of a configuration with the weights of a file, in evaluation."""
    config = config.model_copy(update={"weights": str(file)})
    backbone = config.build(axes, channels, [(2,) * axes] * levels, full_resolution=c0)
    loaded = pretrained(config, backbone)
    backbone.load_state_dict(backbone.state_dict() | loaded.state)
    return backbone.eval(), loaded


def saved(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file


def assert_equal(features: list[Tensor], expected: list[Tensor]) -> None:
    assert len(features) == len(expected)
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("norm", ["batch", "frozen", "none"])
@torch.no_grad()
def test_a_resnet_of_torchvision_gives_the_same_features(depth, norm, tmp_path):
    blocks, bottleneck = DEPTHS[depth]
    state = resnet_state(blocks, bottleneck=bottleneck)
    config = ResNetConfig(depth=depth, start_filters=8, norm=norm, stride_in="middle")
    backbone, _ = load(config, saved(state, tmp_path / "w.pth"), 2, channels=3, levels=5)
    images = torch.randn(2, 3, 70, 96)
    assert_equal(backbone(images), resnet_features(state, images))


@torch.no_grad()
def test_a_residual_encoder_of_nnunet_gives_the_same_features(ndim, tmp_path):
    state = encoder_state(ndim)
    network = {f"encoder.{name}": tensor for name, tensor in state.items()}
    network |= {f"decoder.encoder.{name}": tensor for name, tensor in state.items()} | {"decoder.x": torch.ones(1)}
    file = saved({"network_weights": network}, tmp_path / "w.pth")
    images = torch.randn(2, 1, *(24, 16, 32)[:ndim])
    for c0 in (True, False):
        backbone, _ = load(ENCODER, file, ndim, channels=1, levels=2, c0=c0)
        assert backbone.first_level == 1 - c0
        assert_equal(backbone(images), encoder_features(state, images)[1 - c0 :])


@torch.no_grad()
def test_flat_kernels_of_thick_slices_fit(tmp_path):
    state = encoder_state(3, kernels=[(1, 3, 3), (3, 3, 3), (3, 3, 3)])
    backbone, _ = load(ENCODER, saved(state, tmp_path / "w.pth"), 3, channels=1, levels=2, c0=True)
    images = torch.randn(1, 1, 16, 16, 16)
    assert_equal(backbone(images), encoder_features(state, images))


@pytest.mark.parametrize("bottleneck", [False, True])
@torch.no_grad()
def test_weights_for_slices_do_in_a_volume_of_one_repeated_slice_what_they_do_in_the_slice(bottleneck, tmp_path):
    blocks = (2, 2, 2, 2) if not bottleneck else (3, 4, 6, 3)
    state = resnet_state(blocks, bottleneck=bottleneck)
    config = ResNetConfig(depth=50 if bottleneck else 18, stride_in="middle", **SMALL)
    backbone, loaded = load(config, saved(state, tmp_path / "w.pth"), 3, channels=3, levels=5)
    assert "kernels of 2 -> 3 axes" in str(loaded)
    slices = torch.randn(1, 3, 64, 64)
    features = backbone(slices[:, :, None].expand(-1, -1, 40, -1, -1))
    expected = resnet_features(state, slices)
    pairs = zip(features, expected, strict=True)
    assert_equal(features, [theirs[:, :, None].expand_as(ours) for ours, theirs in pairs])


@pytest.mark.parametrize("channels", [1, 2, 7])
@torch.no_grad()
def test_the_response_to_a_grey_image_does_not_depend_on_the_number_of_channels(channels, ndim, tmp_path):
    grey = torch.randn(1, 1, *(32,) * ndim)
    for config, state, features in (
        (ResNetConfig(depth=18, **SMALL), resnet_state(axes=ndim), resnet_features),
        (ENCODER, encoder_state(ndim, channels=3), encoder_features),
    ):
        file = saved(state, tmp_path / "w.pth")
        backbone, loaded = load(config, file, ndim, channels=channels, levels=2)
        assert f"input channels 3 -> {channels}" in str(loaded)
        ours = backbone(grey.expand(-1, channels, *grey.shape[2:]))
        expected = features(state, grey.expand(-1, 3, *grey.shape[2:]))
        assert_equal(ours, expected[: len(ours)] if config is not ENCODER else expected[1:])


@pytest.mark.parametrize("wrap", ["{}", "module.{}", "state_dict/backbone.{}", "model/module.encoder.{}"])
def test_wrappers_around_the_tensors_are_seen_through(wrap, tmp_path):
    *outer, name = wrap.split("/")
    state = {name.format(key): tensor for key, tensor in resnet_state().items()}
    for key in outer:
        state = {key: state, "epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}
    backbone, loaded = load(ResNetConfig(depth=18, **SMALL), saved(state, tmp_path / "w.ckpt"), 2, channels=3, levels=5)
    assert set(loaded.state) == {key for key in backbone.state_dict() if "num_batches" not in key}


def test_a_safetensors_file_is_as_good_and_the_record_names_it(tmp_path):
    state = resnet_state()
    save_file(state, tmp_path / "w.safetensors")
    _, loaded = load(ResNetConfig(depth=18, **SMALL), tmp_path / "w.safetensors", 2, channels=3, levels=5)
    _, other = load(ResNetConfig(depth=18, **SMALL), saved(state, tmp_path / "w.pth"), 2, channels=3, levels=5)
    assert loaded.state.keys() == other.state.keys()
    assert all(torch.equal(loaded.state[key], other.state[key]) for key in loaded.state)
    record = loaded.to_dict()
    assert record["file"] == str(tmp_path / "w.safetensors")
    assert len(record["sha256"]) == 64
    assert record["sha256"] != other.sha256


def test_a_u_fpn_keeps_its_own_way_to_c1_and_says_so(tmp_path):
    file = saved(resnet_state(), tmp_path / "w.pth")
    _, loaded = load(ResNetConfig(depth=18, **SMALL), file, 2, channels=1, levels=5, c0=True)
    assert "C0 and C1 initialised at random" in str(loaded)
    assert {key.split(".")[1] for key in loaded.state} == {"2", "3", "4", "5"}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_finds_its_backbone(name, ndim, tmp_path):
    file = saved(resnet_state(axes=ndim), tmp_path / "w.pth")
    backbone = ResNetConfig(depth=18, weights=str(file), **SMALL)
    values, task = MODELS[name].to_dict(), make_task(ndim)
    parts = [part for part in (values, values.get("first"), values.get("second"), values.get("net")) if part]
    parts = [part.get("net", part) if part.get("type") == "semantic_net" else part for part in parts]
    parts = [part for part in parts if "backbone" in part]
    for part in parts:
        part["backbone"] = backbone.to_dict()
    config = ModelConfig.from_dict(values)
    loaded = pretrained_parts(config, task)
    assert len(loaded) == len(parts)
    keys = {f"{place}.{key}" for place, one in loaded.items() for key in one.state}
    assert keys < set(config.build(task).state_dict())
    assert pretrained_parts(MODELS[name], task) == {}


def test_a_misfit_names_the_backbone_of_several_that_it_belongs_to(ndim, tmp_path):
    file = saved(resnet_state(axes=ndim), tmp_path / "w.pth")
    values = MODELS["lsnet"].to_dict()
    values["second"]["backbone"]["weights"] = str(file)
    with pytest.raises(ValueError, match=r"model\.second\.backbone"):
        pretrained_parts(ModelConfig.from_dict(values), make_task(ndim))


def test_stages_that_one_side_lacks_do_not_hinder_the_others(ndim, tmp_path):
    file = saved(resnet_state(axes=ndim), tmp_path / "w.pth")
    _, more = load(ResNetConfig(depth=18, **SMALL), file, ndim, channels=3, levels=6)
    assert "C6 initialised at random" in str(more)
    _, fewer = load(ResNetConfig(depth=18, **SMALL), file, ndim, channels=3, levels=3)
    assert "random" not in str(fewer)
    assert fewer.state.keys() < more.state.keys()
    deep = ENCODER.model_copy(update={"widths": (4, 8, 8, 16), "blocks": (1, 2, 2, 1)})
    _, loaded = load(deep, saved(encoder_state(ndim), tmp_path / "w.pth"), ndim, channels=1, levels=3)
    assert "C3 initialised at random" in str(loaded)


def test_the_adaptation_plan_says_which_of_several_stems_and_networks_is_meant(tmp_path):
    teacher, student = encoder_state(3), encoder_state(3)
    weights = {f"teacher.{key}": tensor for key, tensor in teacher.items()}
    weights |= {f"student.{key}": tensor for key, tensor in student.items()}
    weights |= {key.replace("stem", "stems.ct"): tensor for key, tensor in encoder_state(3).items() if "stem" in key}
    plan = {"key_to_encoder": "student.stages", "key_to_stem": "stems.ct", "pretrain_num_input_channels": 1}
    file = saved({"network_weights": weights, "nnssl_adaptation_plan": plan}, tmp_path / "w.pth")
    _, loaded = load(ENCODER, file, 3, channels=1, levels=2)
    assert torch.equal(loaded.state["stem.0.weight"], weights["stems.ct.convs.0.conv.weight"])
    assert torch.equal(loaded.state["stages.1.0.body.0.0.weight"], student["stages.1.blocks.0.conv1.conv.weight"])


def test_a_checkpoint_of_nnunet_with_numpy_scores_is_read(tmp_path):
    content = {
        "network_weights": {f"encoder.{key}": tensor for key, tensor in encoder_state(3).items()},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch": np.int64(3)},
        "init_args": {"fold": 0, "plans": {"dataset_name": "D"}},
    }
    _, loaded = load(ENCODER, saved(content, tmp_path / "checkpoint_final.pth"), 3, channels=1, levels=2)
    assert "stem.0.weight" in loaded.state


def refusal(config: BackboneConfig, content: object, tmp_path: Path, axes: int = 2, levels: int = 3) -> str:
    file = content if isinstance(content, Path) else saved(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=re.escape(str(file))) as caught:
        load(config, file, axes, channels=1, levels=levels)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "state", "says"),
    [
        (ResNetConfig(depth=18, norm="batch"), resnet_state(), r"conv1\.weight: \(8, 3, 7, 7\) in the file, \(32, 1"),
        (ResNetConfig(depth=18, **SMALL), resnet_state((3, 4, 6, 3)), r"layer1\.2\.conv1\.weight: .* no such layer"),
        (ResNetConfig(depth=34, **SMALL), resnet_state(), r"layer1\.2\.conv1\.weight: missing in the file"),
        (ResNetConfig(depth=18, **SMALL, stem_kernel=3), resnet_state(), r"\(8, 3, 7, 7\) in the file, \(8, 1, 3, 3\)"),
        (ResNetConfig(depth=18, start_filters=8, norm="instance"), resnet_state(), "trained with batch norm"),
        (ENCODER, resnet_state(), "a ResNet of torchvision or timm, but model.backbone is a residual_encoder"),
        (ResidualEncoderConfig(), encoder_state(2), r"stem\.convs\.0\.conv\.weight: \(4, 1, 3, 3\) in the file"),
        (ENCODER.model_copy(update={"norm": "group"}), encoder_state(2), "trained with instance norm"),
        (ResNetConfig(), encoder_state(2), "a residual encoder of nnU-Net or nnssl, but model.backbone is a resnet"),
    ],
)  # fmt: skip
def test_a_misfit_names_the_layer_and_the_settings_that_fit(config, state, says, tmp_path):
    levels = 2
    message = refusal(config, state, tmp_path, levels=levels)
    assert re.search(says, message)
    setting = re.search(r"--set 'model\.backbone=(.*)'", message)[1]

    class Holder(Config):
        backbone: BackboneConfig = config

    fitting = Holder().override([f"backbone={setting}"]).backbone
    backbone, loaded = load(fitting, Path(fitting.weights), 2, channels=1, levels=levels)
    assert loaded.state.keys() == {key for key in backbone.state_dict() if "num_batches" not in key}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layer1.0.se.fc1.weight": torch.ones(2, 8, 1, 1)}, r"layer1\.0\.se\.fc1\.weight: \(2, 8, 1, 1\) .* no such"),
        ({"layer1.0.conv2.weight": torch.ones(16, 8, 3, 3)}, r"layer1\.0\.conv2\.weight: \(16, 8, 3, 3\) in the file"),
        ({"layer2.0.downsample.0.weight": None}, r"layer2\.0\.downsample\.0\.weight: missing"),
        ({"layer1.0.bn2.bias": torch.ones(4)}, r"layer1\.0\.bn2\.bias: \(4,\) in the file, \(8,\)"),
        ({"bn1.running_mean": None}, r"bn1\.running_mean: missing"),
    ],
)  # fmt: skip
def test_variants_of_a_resnet_are_refused_by_the_layer_that_differs(change, says, tmp_path):
    state = resnet_state() | change
    state = {key: tensor for key, tensor in state.items() if tensor is not None}
    message = refusal(ResNetConfig(depth=18, **SMALL), state, tmp_path)
    assert re.search(says, message)
    assert "--set" not in message


def test_files_that_cannot_be_used_are_refused_with_a_suggested_fix(tmp_path):
    config = ResNetConfig(depth=18, **SMALL)
    assert "no such file" in refusal(config, tmp_path / "gone.pth", tmp_path)
    for name in ("broken.pth", "broken.safetensors", "empty.pth"):
        (tmp_path / name).write_bytes(b"no weights" * (not name.startswith("empty")))
        assert "not a readable file of weights" in refusal(config, tmp_path / name, tmp_path)
    assert "tensors: none" in refusal(config, {"epoch": 3}, tmp_path)
    transformer = {"network_weights": {"eva.blocks.0.attn.weight": torch.ones(2, 2)}}
    transformer["nnssl_adaptation_plan"] = {"architecture_plans": {"arch_class_name": "PrimusM"}}
    assert "PrimusM that Boxel has no backbone for" in refusal(config, transformer, tmp_path)
    both = {f"encoder_{name}.{key}": tensor for name in "qk" for key, tensor in resnet_state().items()}
    assert "several networks (encoder_q., encoder_k.)" in refusal(config, both, tmp_path)
    assert "made for images of 3 axes, but this model reads 2" in refusal(config, resnet_state(axes=3), tmp_path)
    damaged = resnet_state() | {"layer1.0.bn1.bias": torch.full((8,), torch.nan)}
    assert "NaN" in refusal(config, damaged, tmp_path)


def test_no_code_is_run_from_a_file_and_the_lines_that_convert_it_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": resnet_state(), "args": collections.UserDict(lr=0.1)}
    config = ResNetConfig(depth=18, **SMALL)
    message = refusal(config, content, tmp_path)
    assert "collections.UserDict" in message
    exec(re.sub(r"^ +", "", message.split("\n", 1)[1], flags=re.M))
    load(config, tmp_path / "weights.safetensors", 2, channels=1, levels=3)


def test_another_activation_than_that_of_the_file_is_said(tmp_path):
    file = saved(resnet_state(), tmp_path / "w.pth")
    _, loaded = load(ResNetConfig(depth=18, **SMALL, activation="silu"), file, 2, channels=3, levels=5)
    assert "trained with model.backbone.activation=relu, this is silu" in str(loaded)
