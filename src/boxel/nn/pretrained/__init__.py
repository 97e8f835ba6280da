"""Backbones from weights of torchvision, timm, Darknet, nnU-Net and nnssl.

Kernels change only where image, rank or norm require it, and so that the backbone still computes what it did:

- Another number of input channels: they share the sum of the file's kernels, so the response to a grey image stays.
- More axes than in the file: the kernel becomes the central slice of a larger one, so a stack of one repeated slice
  gives what the slice gave. (Repeating the kernel, as Carreira & Zisserman 2017 do, differs at the borders.) Smaller
  kernels, such as nnU-Net's across thick slices, are enlarged in the same way.
- `norm=none`: batch norms are folded into the convolutions before them.

Those of whole detectors are in `detectors` and `yolov4`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.pretrained.darknet import DarknetFile, is_darknet, read_darknet
from boxel.nn.pretrained.files import file_digest, read_weights
from boxel.nn.pretrained.layouts import LAYOUTS, Layout, recognise
from boxel.nn.resnet import ResNetConfig

EPS = 1e-5  # of torchvision's and timm's batch norms


@dataclass(frozen=True)
class Pretrained:
    """Tensors for a `part` of a model, by the names in its state; `remarks` say what to know about the fit."""

    file: Path
    sha256: str
    title: str
    state: dict[str, Tensor]
    remarks: tuple[str, ...]
    part: str = "backbone"

    def __str__(self) -> str:
        return f"{self.part} from {self.file}: " + "; ".join(
            (f"{len(self.state)} tensors of a {self.title}", *self.remarks)
        )

    def to_dict(self) -> dict[str, Any]:
        """The record of a run folder."""
        return {
            "file": str(self.file.resolve()),
            "sha256": self.sha256,
            "layout": self.title,
            "remarks": list(self.remarks),
            "tensors": list(self.state),
        }


class MisfitError(ValueError):
    """Names the first layer that does not fit, and both shapes."""


def pretrained(
    config: BackboneConfig, backbone: Backbone, setting: str = "model.backbone", *, detector: DarknetFile | None = None
) -> Pretrained:
    """The tensors in the file `config.weights` for a backbone of this configuration.

    Args:
        setting: the dotted key of the configuration, for messages.
        detector: the content of the file, for a caller that reads it as a whole.

    Raises:
        ValueError: the file cannot be read or does not fit; names the first layer that does not, both shapes, and the
            settings that would fit.
    """
    file = Path(config.weights or "")
    darknet = detector or (read_darknet(file, config) if is_darknet(file) else None)
    content = read_weights(file) if darknet is None else darknet.backbone.state_dict()
    name, tensors = recognise(file, content)
    layout, (axes, axes_there) = LAYOUTS[name], (_axes(backbone), tensors[LAYOUTS[name].anchor].ndim - 2)
    if axes_there > axes:
        raise ValueError(
            f"{file}: made for images of {axes_there} axes, but this model reads {axes}; kernels cannot lose an "
            f"axis: train on volumes, or choose weights for {axes} axes"
        )
    try:
        state = assign(config, backbone, name, tensors, setting)
    except MisfitError as error:
        fix = _suggested_fix(layout.fitting(config, tensors), backbone, name, tensors, setting)
        raise ValueError(f"{file}: {error}; {fix}") from None
    check_finite(file, state)
    frozen = [f"C{level}" for level in _fresh_levels(backbone, state) if level <= config.frozen]
    if config.frozen and frozen:
        raise ValueError(
            f"{file}: {' and '.join(frozen)} of this backbone are not in the file, so {setting}.frozen={config.frozen} "
            f"would keep them at random weights; set {setting}.frozen=0"
        )
    remarks = remarks_on(config, backbone, layout, tensors, state, setting)
    if darknet is not None and darknet.unused and detector is None:
        remarks.append(darknet.unused)
    return Pretrained(file, file_digest(file), layout.title, state, tuple(remarks))


def check_finite(file: Path, state: dict[str, Tensor]) -> None:
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{file}: the tensor for {key} holds NaN or infinite values; download the file again")
        if key.endswith("running_var") and (tensor < 0).any():
            raise ValueError(f"{file}: the variances for {key} are below 0; give a file of the same network")


def assign(
    config: BackboneConfig,
    backbone: Backbone,
    name: str,
    tensors: dict[str, Tensor],
    setting: str,
    *,
    eps: float = EPS,
) -> dict[str, Tensor]:
    """The state of a backbone from tensors in the layout `name`, whose batch norms add `eps` to their variance.

    Raises:
        MisfitError: they do not fit.
    """
    layout, own = LAYOUTS[name], backbone.state_dict()
    if config.type_name != name:
        raise MisfitError(f"a {layout.title}, but {setting} is a {config.type_name}")
    if config.norm not in layout.norms:
        trained = "without norms" if layout.norms[0] == "none" else f"with {layout.norms[0]} norm"
        raise MisfitError(f"trained {trained}, but {setting}.norm is {config.norm}")
    state: dict[str, Tensor] = {}
    used, stages = set(), set()

    def take(key: str, shape: tuple[int, ...], *, any_channels: bool = False) -> Tensor:
        if key not in tensors:
            raise MisfitError(f"{key}: missing in the file, {shape} in this backbone")
        tensor = tensors[key].float()
        if len(shape) > 1:
            tensor = _fit_kernel(tensor, shape, any_channels=any_channels)
        if tuple(tensor.shape) != shape:
            raise MisfitError(f"{key}: {tuple(tensors[key].shape)} in the file, {shape} in this backbone")
        used.add(key)
        return tensor

    for ours, conv, norm in layout.layers(backbone, tensors):
        shape = tuple(own[f"{ours}.0.weight"].shape)
        kernel = take(f"{conv}.weight", shape, any_channels=conv == layout.image_layer)
        bias = take(f"{conv}.bias", shape[:1]) if f"{conv}.bias" in tensors else torch.zeros(shape[0])
        statistics = {part: take(f"{norm}.{part}", shape[:1]) for part in layout.norm_state}
        if config.norm == "none" and statistics:
            kernel, bias = _fold(kernel, bias, statistics, eps)
        else:
            if config.norm == "frozen":
                statistics["running_var"] = statistics["running_var"] + eps
            state |= {f"{ours}.1.{part}": value for part, value in statistics.items()}
        state |= {f"{ours}.0.weight": kernel}
        if f"{ours}.0.bias" in own:
            state |= {f"{ours}.0.bias": bias}
        stages.add(layout.stage(f"{conv}.weight", tensors))
    for key, tensor in tensors.items():
        known = key in used or key.endswith("num_batches_tracked") or ".all_modules." in key  # nnU-Net's second name
        if layout.stage(key, tensors) in stages and not known:
            raise MisfitError(f"{key}: {tuple(tensor.shape)} in the file, no such layer in this backbone")
    return state


def _fit_kernel(kernel: Tensor, shape: tuple[int, ...], *, any_channels: bool) -> Tensor:
    """The kernel with the axes, the width and, if `any_channels`, the input channels of `shape`; see the module."""
    kernel = kernel.reshape(*kernel.shape[:2], *(1,) * (len(shape) - kernel.ndim), *kernel.shape[2:])
    if any_channels and kernel.shape[1] != shape[1]:
        kernel = kernel.sum(1, keepdim=True).expand(-1, shape[1], *kernel.shape[2:]) / shape[1]
    missing = [want - has for want, has in zip(shape[2:], kernel.shape[2:], strict=True)]
    if any(cells < 0 or cells % 2 for cells in missing):
        return kernel
    return F.pad(kernel, [cells // 2 for cells in reversed(missing) for _ in "ab"])


def _fold(kernel: Tensor, bias: Tensor, norm: dict[str, Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """The convolution that computes what this one and its batch norm compute in evaluation."""
    scale = norm["weight"] / (norm["running_var"] + eps).sqrt()
    return kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1)), norm["bias"] + (bias - norm["running_mean"]) * scale


def _suggested_fix(
    fitting: BackboneConfig | None, backbone: Backbone, name: str, tensors: dict[str, Tensor], setting: str
) -> str:
    """The settings under which the file fits this task, if there are any."""
    unknown = f"Boxel has plain {LAYOUTS[name].title.split(' of ')[0]}s only"
    if fitting is None:
        return unknown
    kept: dict[str, Any] = {"frozen": backbone.config.frozen}
    if backbone.config.type_name == name:
        kept["activation"] = backbone.config.activation
    fitting = fitting.model_copy(update=kept)
    axes, image = _axes(backbone), next(backbone.parameters())
    strides = [(1,) * axes] * (len(backbone.channels) + backbone.first_level - 1)
    try:
        with torch.device("meta"):
            other = fitting.build(axes, image.shape[1], strides, full_resolution=backbone.first_level == 0)
        assign(fitting, other, name, tensors, setting)
    except MisfitError:
        return unknown
    except ValueError as error:  # it has fewer stages than the plan
        return str(error)
    return f"it fits with --set '{setting}={json.dumps(fitting.model_dump(mode='json', exclude_defaults=True))}'"


def remarks_on(
    config: BackboneConfig,
    backbone: Backbone,
    layout: Layout,
    tensors: dict[str, Tensor],
    state: dict[str, Tensor],
    setting: str,
) -> list[str]:
    """What a user should know about the fit of a backbone, whose `state` is made of `tensors`."""
    image, kernel = next(backbone.parameters()), tensors[layout.anchor]
    fresh = [f"C{level}" for level in _fresh_levels(backbone, state)]
    remarks = []
    if fresh:
        why = ", as C1 reads the image in the file and C0 here" if "C0" in fresh else ""
        remarks.append(f"{' and '.join(fresh)} initialised at random{why}")
    stem = tensors.get(f"{layout.image_layer}.weight", image)
    if "C0" not in fresh and stem.shape[1] != image.shape[1]:
        remarks.append(f"input channels {stem.shape[1]} -> {image.shape[1]}")
    if kernel.ndim < image.ndim:
        remarks.append(f"kernels of {kernel.ndim - 2} -> {image.ndim - 2} axes")
    if config.norm == "none" != layout.norms[0]:
        remarks.append(f"{layout.norms[0]} norms folded into the convolutions")
    if config.activation != layout.activation:
        remarks.append(
            f"the file was trained with {setting}.activation={layout.activation}, this is {config.activation}"
        )
    if isinstance(config, ResNetConfig) and "layer1.0.conv3.weight" in tensors and config.stride_in == "first":
        remarks.append(f"weights of torchvision or timm need {setting}.stride_in=middle, this is first")
    return remarks


def _fresh_levels(backbone: Backbone, state: dict[str, Tensor]) -> list[int]:
    """The levels with weights of which none is in the file."""
    return [
        backbone.lowest_level + place
        for place, stage in enumerate(backbone.stages)
        if any(True for _ in stage.parameters()) and not any(key.startswith(f"stages.{place}.") for key in state)
    ]


def _axes(backbone: Backbone) -> int:
    return next(backbone.parameters()).ndim - 2
