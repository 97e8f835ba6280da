"""MONAI's RetinaNet with a ResNet-18 and an FPN, from random weights, in 2D and 3D, within a CPU budget.

As in its tutorial on lung nodules: ATSS, hard negatives, SGD whose learning rate drops half-way, patches around boxes
and background in turn, mirrored and with other grey values. Its anchors are three typical sizes of the training boxes.
"""

import numpy as np
import torch
from exchange import Boxes, Case, Job, run
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.apps.detection.transforms.dictionary import RandCropBoxByPosNegLabeld, RandFlipBoxd
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.nets import resnet18
from monai.transforms import Compose, RandAdjustContrastd, RandGaussianNoised, RandScaleIntensityd, RandShiftIntensityd
from monai.utils import set_determinism
from torch_training import train

BATCH = 2  # patches of one image
LAYERS = (1, 2)
PATCH = {2: (256, 256), 3: (48, 96, 96)}


def fit(job: Job):
    torch.set_num_threads(1)
    set_determinism(job.seed, use_deterministic_algorithms=False)
    torch.set_num_threads(1)
    random, ndim = np.random.default_rng(job.seed), job.data.ndim
    cases = [(tensor(case.image(), job), case) for case in job.data.part("train")]
    smallest = np.min([image.shape[1:] for image, _ in cases], axis=0)
    patch = tuple(int(min(most, length)) for most, length in zip(PATCH[ndim], smallest, strict=True))
    model = detector(job, patch)
    change = transforms(patch, ndim)
    change.set_random_state(job.seed)
    optimizer = torch.optim.SGD(model.network.parameters(), 1e-2, momentum=0.9, weight_decay=3e-5, nesterov=True)

    def losses():
        while True:
            for row in random.permutation(len(cases)):
                image, case = cases[row]
                patches = change({"image": image, "box": corners(case), "label": torch.from_numpy(case.labels)})
                job.remarks["steps"] = int(job.remarks.get("steps", 0)) + 1
                given = torch.stack([one["image"].as_tensor() for one in patches])
                yield sum(model(given, [{"box": one["box"], "label": one["label"]} for one in patches]).values())

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Boxes:
        pixels = tensor(image, job)
        inferer = any(length > most for length, most in zip(pixels.shape[1:], patch, strict=True))
        [found] = model([pixels], use_inferer=inferer)
        boxes = found["box"].numpy().reshape(-1, 2, ndim)
        return Boxes(boxes, found["label_scores"].numpy(), found["label"].numpy())

    best = train(model, losses(), optimizer, job.clock, predict, job.data.part("val"), drops=(0.5,))
    job.remarks["validation AP@0.50"] = best
    return predict


def detector(job: Job, patch: tuple[int, ...]) -> RetinaNetDetector:
    ndim = job.data.ndim
    backbone = resnet18(spatial_dims=ndim, n_input_channels=job.data.channels, conv1_t_size=7, conv1_t_stride=2)
    features = resnet_fpn_feature_extractor(backbone, ndim, False, LAYERS, None)
    sizes = np.concatenate([case.boxes[:, 1] - case.boxes[:, 0] for case in job.data.part("train")])
    shapes = np.quantile(sizes, (0.1, 0.25, 0.4), axis=0)  # of the finest level; those of the others are larger
    anchors = AnchorGeneratorWithAnchorShape([2**level for level in range(len(LAYERS) + 1)], shapes.tolist())
    network = RetinaNet(ndim, len(job.data.classes), len(shapes), features, size_divisible=4 * 2 ** max(LAYERS))
    model = RetinaNetDetector(network, anchors)
    model.set_atss_matcher(num_candidates=4, center_in_gt=False)
    model.set_hard_negative_sampler(batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16)
    model.set_target_keys(box_key="box", label_key="label")
    model.set_box_selector_parameters(score_thresh=0.02, nms_thresh=0.22, detections_per_img=300)
    model.set_sliding_window_inferer(patch, overlap=0.25, mode="constant")
    return model


def transforms(patch: tuple[int, ...], ndim: int) -> Compose:
    crop = RandCropBoxByPosNegLabeld("image", "box", "label", patch, pos=1, neg=1, num_samples=BATCH, whole_box=True)
    flips = [RandFlipBoxd("image", "box", "image", prob=0.5, spatial_axis=axis) for axis in range(ndim)]
    grey = [
        RandGaussianNoised("image", prob=0.1, mean=0, std=0.1),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        RandScaleIntensityd("image", factors=0.25, prob=0.15),
        RandShiftIntensityd("image", offsets=0.1, prob=0.15),
    ]
    return Compose([crop, *flips, *grey])


def corners(case: Case) -> torch.Tensor:
    return torch.from_numpy(case.boxes.reshape(len(case.boxes), -1))


def tensor(image: np.ndarray, job: Job) -> torch.Tensor:
    """`(c, *s)`, each image from 0 to 1."""
    array = np.moveaxis(image, -1, 0) if image.ndim > job.data.ndim else image[None]
    low, high = np.percentile(array, (0.5, 99.5))
    return torch.from_numpy(np.clip((array - low) / max(high - low, 1e-6), 0, 1).astype(np.float32))


if __name__ == "__main__":
    run(fit, ("monai", "torch"))
