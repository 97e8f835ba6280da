"""Whole YOLOv4 networks from Darknet's files: of all layers, or of the first 137, which end before the heads."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.pan import PAN
from boxel.nn.pretrained import Pretrained, check_finite, pretrained
from boxel.nn.pretrained.darknet import ANCHORS, BOX, LEVELS, count, fill, is_darknet, read_darknet, way_down
from boxel.nn.pretrained.detectors import backbone_alone, check_axes, last_layers

ORDER = [
    1,
    0,
    3,
    2,
    4,
]  # theirs are x, y of the centre, width, height, objectness; ours y, x, height, width, objectness


def pretrained_yolov4(file: Path, model: Any) -> Pretrained:
    """The tensors in a file for a model with an encoder, a PAN and a head on each of its levels.

    The last layers are left out where the file is for another number of classes or anchors.

    Raises:
        ValueError: the file cannot be read or does not fit.
    """
    alone = backbone_alone(file)
    if not is_darknet(file):
        raise ValueError(f"{file}: no file of Darknet by its name (.weights, .conv.137); {alone}")
    check_axes(file, 2, model)
    if not isinstance(model.neck, PAN) or model.neck.outputs != LEVELS:
        raise ValueError(f"{file}: YOLOv4 has a pan and plan.levels=[3,4,5], but this model has not; {alone}")
    config = model.encoder.config.model_copy(update={"weights": str(file)})
    content = read_darknet(file, config)
    backbone = pretrained(config, model.encoder, detector=content)
    if content.ends == "backbone":
        raise ValueError(f"{file}: a backbone without a neck; {alone}")
    neck, heads = deepcopy(model.neck), deepcopy(model.heads)
    parts: list[nn.Module] = list(way_down(neck))
    if content.ends == "heads":
        for head, up in zip(heads, [*neck.up.values(), nn.Identity()], strict=True):
            head.numbers = nd.CONV[2](head.numbers.in_channels, ANCHORS * (BOX + content.classes), 1)
            parts += [head, up]
    rest, wanted = content.rest, sum(map(count, parts))
    if len(rest) != wanted:
        raise ValueError(
            f"{file}: {len(rest)} numbers behind the backbone, but the neck and heads of this model have {wanted}; "
            f"they fit those of the recipe yolov4; {alone}"
        )
    for part in parts:
        rest = fill(part, rest)
    remarks, classes, absent = list(backbone.remarks), model.numbers.num_classes, ["num_batches_tracked"]
    if content.ends != "heads":
        absent += ["neck.up.", "heads."]
        remarks.append("the way up and the heads, behind layer 137: random at the start")
    elif model.anchors_per_cell != ANCHORS:
        absent += [".numbers."]
        remarks.append(last_layers(ANCHORS, model.anchors_per_cell, "anchors per position"))
    elif content.classes != classes:
        absent += [".numbers."]
        remarks.append(last_layers(content.classes, classes))
    state = {
        key: _in_our_order(tensor) if ".numbers." in key else tensor
        for key, tensor in nn.ModuleDict({"neck": neck, "heads": heads}).state_dict().items()
        if not any(part in key for part in absent)
    }
    check_finite(file, state)
    state = {f"encoder.{key}": tensor for key, tensor in backbone.state.items()} | state
    return Pretrained(file, backbone.sha256, "YOLOv4 of Darknet", state, tuple(remarks), part="detector")


def _in_our_order(rows: Tensor) -> Tensor:
    """Weights or biases of the last layer, whose rows are the numbers of one anchor after the other."""
    anchors = rows.unflatten(0, (ANCHORS, -1))
    return anchors[:, [*ORDER, *range(BOX, anchors.shape[1])]].flatten(0, 1)
