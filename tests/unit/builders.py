"""Small tasks and batches for tests of models, training and inference."""

import torch

from boxel.models import (
    CoarseConfig,
    ComponentsConfig,
    CSPDarknetConfig,
    DenseConfig,
    FasterRCNNConfig,
    FPNConfig,
    LNetConfig,
    MaskConfig,
    ModelConfig,
    PANConfig,
    PyramidConfig,
    ResNetConfig,
    RoIConfig,
    RPNConfig,
    SemanticNetConfig,
    YOLOHeadsConfig,
)
from boxel.recipes.parts import model_with
from boxel.types import Batch, Instances, Normalisation, Task

TINY = ResNetConfig(depth=10, start_filters=8, stem_kernel=3, norm="group")
TINY_NET = SemanticNetConfig(backbone=TINY, filters=16)
FIRST_STAGES = {
    "lsnet": LNetConfig(backbone=TINY, filters=16, box_kernel=3, delta=0.5, beta=0.0),
    "coarse_to_fine": CoarseConfig(net=TINY_NET, components=ComponentsConfig()),
}


def tiny(name: str) -> ModelConfig:
    """A registered model, narrow."""
    segments = ModelConfig.registry[name].segments
    parts = {
        "backbone": TINY,
        "neck": FPNConfig(filters=16, narrow_filters=8 if segments else None),
        "dense": DenseConfig(filters=16),
        "rpn": RPNConfig(filters=16, proposals=50),
        "roi": RoIConfig(filters=32, per_image=16),
        "mask": MaskConfig(num_convs=1),
        "net": TINY_NET,
        "second": TINY_NET,
    }
    if name == "yolov4":
        parts = {"backbone": CSPDarknetConfig(width=0.125, depth=0.25, norm="group"), "neck": PANConfig(norm="group")}
        parts["dense"] = YOLOHeadsConfig(norm="group")
    if name == "faster_rcnn":  # its own settings, not the shared defaults; with norms, to learn in a few steps
        own, norm = FasterRCNNConfig(), {"norm": "group"}
        parts["rpn"] = own.rpn.model_copy(update={"filters": 16, "proposals": 50, "train_proposals": 50} | norm)
        parts["roi"] = own.roi.model_copy(update={"filters": 32, "per_image": 16, "pool_size": None} | norm)
    if name in FIRST_STAGES:
        parts["first"] = FIRST_STAGES[name]
    return model_with(name, parts)


MODELS = {name: tiny(name) for name in ModelConfig.registry}
DETECTORS = {name: config for name, config in MODELS.items() if isinstance(config, PyramidConfig)}
ALWAYS_SEGMENT = ("det_unet", "unet", "lsnet", "coarse_to_fine")  # in every call of infer


def make_task(ndim: int, classes: tuple[str, ...] = ("cube", "block"), size: int = 24, **changes: object) -> Task:
    """Patches of `size` voxels per axis, two levels, anchors that fit the objects of `make_batch`."""
    values = {
        "name": "test",
        "ndim": ndim,
        "channels": ("intensity",),
        "classes": classes,
        "spacing": (1.0,) * ndim,
        "normalisation": (Normalisation(),),
        "patch_size": (size,) * ndim,
        "batch_size": 2,
        "strides": ((2,) * ndim,) * 3,
        "levels": (2, 3),
        "anchors": (((8.0,) * ndim,), ((14.0,) * ndim,)),
    }
    return Task(**{**values, **changes})


def make_batch(
    task: Task, num_images: int, objects: int = 1, seed: int = 0, widths: tuple[int, int] = (8, 14)
) -> Batch:
    """Noise with bright cubes (class 0, 8 wide) or brighter, larger blocks (class 1, 14 wide), masks included.

    Neighbouring slices of slice-wise tasks hold objects of their own, elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((num_images, task.input_channels, *task.patch_size), generator=generator) * 0.1
    label_maps = torch.zeros((num_images, *task.patch_size), dtype=torch.int32)
    instances = []
    for image, label_map in zip(images, label_maps, strict=True):
        boxes, labels = [], []
        for number in range(objects):
            label = int(torch.randint(len(task.classes), (), generator=generator))
            width = widths[label]
            lower = [int(torch.randint(0, size - width + 1, (), generator=generator)) for size in task.patch_size]
            region = tuple(slice(a, a + width) for a in lower)
            for number_of_slice, channel in enumerate(image, start=-task.context):
                mirrored = tuple(slice(s - a - width, s - a) for a, s in zip(lower, task.patch_size, strict=True))
                channel[mirrored if number_of_slice else region] += 1.0 + label
            label_map[region] = number + 1
            boxes.append([lower, [a + width for a in lower]])
            labels.append(label)
        instances.append(make_instances(boxes, labels, task.ndim))
    return Batch(images, label_maps, instances, tuple(str(i) for i in range(num_images)))


def make_instances(boxes: list, labels: list[int], ndim: int, *, masks: bool = True) -> Instances:
    """Objects as tensors, numbered from 1."""
    count = len(labels)
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).reshape(count, 2, ndim),
        torch.tensor(labels, dtype=torch.int64).reshape(count),
        torch.arange(1, count + 1),
        torch.full((count,), masks),
    )
