"""Whole detectors from weights of torchvision's Faster R-CNN on a ResNet with FPN: every layer of a file has its place.

Such a file is `fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`, of COCO's 90 categories.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from boxel.nn.pretrained import MisfitError, Pretrained, assign, check_finite, remarks_on
from boxel.nn.pretrained.files import file_digest, read_weights
from boxel.nn.pretrained.layouts import LAYOUTS

TITLE = "Faster R-CNN of torchvision"
ANCHOR = "rpn.head.bbox_pred.weight"
BACKBONE = "backbone.body."
EPS = 0.0  # of the batch norms: torchvision sets it once it has read the weights of a detector
ORDER = [1, 0, 3, 2]  # their numbers of a box are along x, y, x, y (shift, then size); ours y, x, y, x
# Our layers, and theirs; those of the pyramid follow from its levels.
LAYERS = (
    ("rpn.dense.heads.shared.tower.0.0", "rpn.head.conv"),
    ("rpn.dense.heads.shared.outputs.0", "rpn.head.cls_logits"),
    ("rpn.dense.heads.shared.outputs.1", "rpn.head.bbox_pred"),
    ("roi.head.layers.0", "roi_heads.box_head.fc6"),
    ("roi.head.layers.2", "roi_heads.box_head.fc7"),
    ("roi.head.classes", "roi_heads.box_predictor.cls_score"),
    ("roi.head.boxes", "roi_heads.box_predictor.bbox_pred"),
)


def pretrained_detector(file: Path, model: Any) -> Pretrained:
    """The tensors in a file for a model with an encoder, a neck, an RPN and a box head.

    The last layers are left out where the file is for another number of classes.

    Raises:
        ValueError: the file cannot be read or does not fit; names the first layer that does not, and both shapes.
    """
    tensors = _read(file)
    check_axes(file, tensors[ANCHOR].ndim - 2, model)
    encoder, body = model.encoder, {k.removeprefix(BACKBONE): t for k, t in tensors.items() if k.startswith(BACKBONE)}
    try:
        own = assign(encoder.config, encoder, "resnet", body, "model.backbone", eps=EPS)
        state = {f"encoder.{key}": tensor for key, tensor in own.items()}
        heads, remarks = _heads(model, {k: t for k, t in tensors.items() if not k.startswith(BACKBONE)})
    except MisfitError as error:
        fix = "it fits the model faster_rcnn with plan.levels=[2,3,4,5,6] and plan.anchors=torchvision"
        raise ValueError(f"{file}: {error}; {fix}; {backbone_alone(file)}") from None
    state |= heads
    check_finite(file, state)
    remarks += remarks_on(encoder.config, encoder, LAYOUTS["resnet"], body, own, "model.backbone")
    return Pretrained(file, file_digest(file), TITLE, state, tuple(remarks), part="detector")


def backbone_alone(file: Path) -> str:
    """The suggested fix where only the backbone of a detector's file may fit."""
    return f"for the backbone alone, set model.backbone.weights={file} instead of model.weights"


def check_axes(file: Path, axes_there: int, model: nn.Module) -> None:
    """The model reads images of as many axes as the detector in the file."""
    axes = next(model.parameters()).ndim - 2
    if axes != axes_there:
        raise ValueError(
            f"{file}: a detector for images of {axes_there} axes, but this model reads {axes}; {backbone_alone(file)}"
        )


def last_layers(there: int, here: int, what: str = "classes") -> str:
    """The remark on last layers for another number of classes, or of `what`."""
    return f"last layers for {there} {what} in the file, {here} here: random at the start"


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of the file by torchvision's earlier names, without the names of containers around them."""
    tensors = {key: value for key, value in read_weights(file).items() if isinstance(value, Tensor)}
    place = next((key.removesuffix(ANCHOR) for key in tensors if f".{key}".endswith(f".{ANCHOR}")), None)
    if place is None:
        raise ValueError(
            f"{file}: no {TITLE} (tensors: {', '.join([*tensors][:3]) or 'none'}); weights of a backbone are given as "
            "model.backbone.weights"
        )
    # Later versions have convolutions of the pyramid and of the RPN in sequences: conv.0.0, inner_blocks.2.0.
    nested = re.compile(r"^(backbone\.fpn\.\w+\.\d+|rpn\.head\.conv)(\.0)+\.")
    names = {key: nested.sub(r"\1.", key.removeprefix(place)) for key in tensors if key.startswith(place)}
    return {name: tensors[key] for key, name in names.items() if not name.endswith("num_batches_tracked")}


def _pyramid(neck: Any) -> Iterator[tuple[str, str]]:
    """The layers of an FPN, whose levels torchvision counts from P2."""
    for ours, theirs in (("lateral", "inner_blocks"), ("smooth", "layer_blocks")):
        for level in getattr(neck, ours, ()):
            yield f"neck.{ours}.{level}", f"backbone.fpn.{theirs}.{int(level) - 2}"


def _heads(model: nn.Module, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The state of all but the encoder, and what a user should know about it."""
    own = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("encoder.")}
    pairs = [(f"{a}.{part}", f"{b}.{part}") for a, b in (*_pyramid(model.neck), *LAYERS) for part in ("weight", "bias")]
    for ours, theirs in pairs:
        if theirs not in tensors:
            raise MisfitError(f"{theirs}: missing in the file")
        if ours not in own:
            raise MisfitError(f"{theirs}: {tuple(tensors[theirs].shape)} in the file, no such layer in this model")
    for key in sorted((tensors.keys() | own.keys()).difference(*pairs)):
        raise MisfitError(f"{key}: only in {'the file' if key in tensors else 'this model'}")
    classes = [len(table[f"{name}.bias"]) for table, name in zip((own, tensors), LAYERS[-2], strict=True)]
    state, remarks = {}, []
    for ours, theirs in pairs:
        tensor, like = tensors[theirs].float(), own[ours]
        if "box_predictor" in theirs and classes[0] != classes[1]:
            remarks = [last_layers(classes[1] - 1, classes[0] - 1)]
            continue
        flat = like.flatten(1) if theirs.endswith((".fc6.weight", ".fc7.weight")) else like
        if tensor.shape != flat.shape:
            raise MisfitError(f"{theirs}: {tuple(tensor.shape)} in the file, {tuple(flat.shape)} in this model")
        if ".bbox_pred." in theirs:
            tensor = tensor.unflatten(0, (-1, len(ORDER)))[:, ORDER].flatten(0, 1)
        state[ours] = tensor.reshape(like.shape)
    return state, remarks
