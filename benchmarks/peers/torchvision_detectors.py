"""torchvision's Faster R-CNN and RetinaNet with a ResNet-18 and an FPN, from random weights, within a CPU budget.

From random weights, the frozen batch norm of its defaults cannot learn: as in its second versions, batch norm is that
of the batch. SGD and the two drops of the learning rate are those of its reference training, scaled to batches of 4.
"""

import numpy as np
import torch
from exchange import Boxes, Case, Job, run
from torch_training import train
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

BATCH = 4
LONGEST = 320  # pixels; an image is not enlarged
RATES = {"faster_rcnn": 0.02 / 16 * BATCH, "retina_net": 0.01 / 16 * BATCH}


def fit(job: Job):
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    random = np.random.default_rng(job.seed)
    model = built(job)
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(parameters, RATES[job.variant], momentum=0.9, weight_decay=1e-4)
    cases = [(tensor(case.image()), case) for case in job.data.part("train")]

    def losses():
        while True:
            for rows in np.array_split(random.permutation(len(cases)), max(1, len(cases) // BATCH)):
                batch = [augmented(*cases[row], random, job.variant) for row in rows]
                job.remarks["steps"] = int(job.remarks.get("steps", 0)) + 1
                yield sum(model([image for image, _ in batch], [target for _, target in batch]).values())

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Boxes:
        [found] = model([tensor(image)])
        corners = found["boxes"].numpy().reshape(-1, 2, 2)[..., ::-1]
        return Boxes(corners, found["scores"].numpy(), found["labels"].numpy() - first_label(job.variant))

    best = train(model, losses(), optimizer, job.clock, predict, job.data.part("val"), drops=(16 / 26, 22 / 26))
    job.remarks["validation AP@0.50"] = best
    return predict


def built(job: Job) -> torch.nn.Module:
    shape = job.data.part("train")[0].image().shape[:2]
    scale = min(1.0, LONGEST / max(shape))
    sizes = {"min_size": round(scale * min(shape)), "max_size": round(scale * max(shape))}
    plain = {"backbone_name": "resnet18", "weights": None, "trainable_layers": 5, "norm_layer": torch.nn.BatchNorm2d}
    smallest = smallest_anchor(job, scale)
    if job.variant == "faster_rcnn":
        anchors = AnchorGenerator(tuple((smallest * 2**level,) for level in range(5)), ((0.5, 1.0, 2.0),) * 5)
        classes = len(job.data.classes) + 1
        return FasterRCNN(
            resnet_fpn_backbone(**plain), classes, rpn_anchor_generator=anchors, box_score_thresh=0.001,
            box_detections_per_img=300, **sizes,
        )  # fmt: skip
    backbone = resnet_fpn_backbone(**plain, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    scales = [smallest * 2**level for level in range(5)]
    anchors = AnchorGenerator(tuple((x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)) for x in scales), ((0.5, 1.0, 2.0),) * 5)
    return RetinaNet(
        backbone, len(job.data.classes), anchor_generator=anchors, score_thresh=0.001, detections_per_img=300, **sizes
    )


def smallest_anchor(job: Job, scale: float) -> float:
    """So that a tenth of the objects are smaller; the default, 32, is made for photographs of 800 pixels."""
    sides = [scale * (case.boxes[:, 1] - case.boxes[:, 0]).prod(-1) ** 0.5 for case in job.data.part("train")]
    return float(np.quantile(np.concatenate(sides), 0.1))


def first_label(variant: str) -> int:
    return 1 if variant == "faster_rcnn" else 0  # 0 is the background of Faster R-CNN


def tensor(image: np.ndarray) -> torch.Tensor:
    colours = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
    return torch.from_numpy(colours.transpose(2, 0, 1).astype(np.float32) / 255)


def augmented(image: torch.Tensor, case: Case, random: np.random.Generator, variant: str):
    """Mirrored along either axis, as cells look alike both ways, and somewhat brighter or darker."""
    boxes = case.boxes.copy()
    for axis in (0, 1):
        if random.random() < 0.5:
            image, length = image.flip(axis + 1), image.shape[axis + 1]
            boxes[:, :, axis] = length - boxes[:, ::-1, axis]
    image = (image * random.uniform(0.8, 1.2) + random.uniform(-0.1, 0.1)).clamp(0, 1)
    corners = torch.from_numpy(boxes[..., ::-1].reshape(-1, 4).copy())
    return image, {"boxes": corners, "labels": torch.from_numpy(case.labels + first_label(variant))}


if __name__ == "__main__":
    run(fit, ("torchvision", "torch"))
