"""The experiments of the Retina U-Net papers, as their public toolkit had them.

Every number: Jaeger et al., arXiv 1811.08661 and the Medical Detection Toolkit (commit 6753237). Where the toolkit had
defects, ours are the corrected rules: anchors sit on cell centres, boxes are tight and half-open, box targets use
(0.1, 0.2) for centre and size in any rank, detections are not rounded, slices are merged for slice-wise models only,
and every image of a toy set is distinct. What differs by design is named in `reproduces`, which is empty for
models whose result the paper does not report.
"""

from typing import Any

from boxel.consolidation import ConsolidateConfig
from boxel.inference.config import PredictConfig
from boxel.loading.augment import NO_AUGMENTATION, AugmentConfig
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.recipes.paper_models import Sizes, paper_model
from boxel.training.config import TrainConfig

# mAP at IoU 0.10 and patient-level AP (%) on LIDC: arXiv 1811.08661, table 1. It has no Faster R-CNN+.
_LIDC = {
    "mdt_lidc_2d": ((40.8, 68.0), (39.5, 67.7), (29.0, 59.8), (38.6, 66.4), (35.3, 63.6)),
    "mdt_lidc_2dc": ((50.2, 73.9), (48.2, 71.5), (41.1, 66.1), (49.1, 71.6), (45.4, 69.1)),
    "mdt_lidc_3d": ((49.8, 70.4), (45.9, 68.8), (36.6, 62.8), (50.5, 70.7), (48.3, 71.8)),
}
_OF_TABLE = ("retina_unet", "retina_net", "det_unet", "ufrcnn_plus", "mask_rcnn")
# Figure 5 compares all six on toy images.
_OF_FIGURE = (*_OF_TABLE, "faster_rcnn_plus")
_PLANE = ((2, 2),) * 5
_VOLUME = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
_LIDC_SPACING = (1.25, 0.7, 0.7)


def mdt_toy(model: str) -> Experiment:
    """The toy experiments: 320 x 320, no augmentation, one positive anchor per image."""
    return Experiment(
        recipe=_name("mdt_toy", model),
        reproduces="toy data, arXiv 1811.08661 figure 5; one fixed split, 24 epochs of 100 batches of 20"
        if model in _OF_FIGURE
        else "",
        plan=_plan(strides=_PLANE, patch_size=(320, 320), batch_size=20, max_detections=10, normalisation=("none",)),
        model=paper_model(model, Sizes.PLANE, positives=1, components=3),
        train=_train(epochs=24, batches=100, augment=NO_AUGMENTATION, foreground=0.0),
        predict=PredictConfig(views="plane", overlap=0.1, coverage="mean"),
        consolidate=_consolidate(10),
    )


def mdt_lidc_2d(model: str) -> Experiment:
    """LIDC slice by slice, merged to volumes."""
    return _lidc_slices("mdt_lidc_2d", model, context=0)


def mdt_lidc_2dc(model: str) -> Experiment:
    """LIDC slices with three neighbours on either side as channels."""
    return _lidc_slices("mdt_lidc_2dc", model, context=3)


def mdt_lidc_3d(model: str) -> Experiment:
    """LIDC as volumes: 128 x 128 x 64 patches."""
    return Experiment(
        recipe=_name("mdt_lidc_3d", model),
        reproduces=_published("mdt_lidc_3d", model, " (the toolkit's z axis is our first)"),
        plan=_plan(spacing=_LIDC_SPACING, strides=_VOLUME, patch_size=(64, 128, 128), batch_size=8, max_detections=30),
        model=paper_model(model, Sizes.VOLUME, positives=3, components=30),
        train=_train(epochs=100, batches=200, augment=_augmentation(elastic=0.0), foreground=0.5),
        predict=PredictConfig(views="plane", overlap=0.25, coverage="mean"),
        consolidate=_consolidate(30),
    )


def _name(recipe: str, model: str) -> str:
    return recipe if model == "retina_unet" else f"{recipe}_{model}"


def _published(recipe: str, model: str, remark: str = "") -> str:
    """The paper's result of this model; nothing where it reports none."""
    if model not in _OF_TABLE:
        return ""
    precision, patient = _LIDC[recipe][_OF_TABLE.index(model)]
    return f"LIDC {model}, arXiv 1811.08661 table 1: mAP10 {precision}, patient AP {patient}{remark}"


def _lidc_slices(name: str, model: str, context: int) -> Experiment:
    return Experiment(
        recipe=_name(name, model),
        reproduces=_published(name, model),
        plan=_plan(
            ndim=2,
            context=context,
            spacing=_LIDC_SPACING,
            strides=_PLANE,
            patch_size=(288, 288),
            batch_size=20,
            max_detections=10,
        ),
        model=paper_model(model, Sizes.PLANE, positives=3, components=10),
        train=_train(epochs=100, batches=200, augment=_augmentation(elastic=8.0), foreground=0.5),
        predict=PredictConfig(views="plane", overlap=0.1, coverage="mean"),
        consolidate=_consolidate(100),
    )


def _plan(**chosen: Any) -> PlanConfig:
    """Detection on P2 to P5 with the anchors of the toolkit."""
    return PlanConfig(levels=(2, 3, 4, 5), anchors="mdt", **chosen)


def _train(*, epochs: int, batches: int, augment: AugmentConfig, foreground: float) -> TrainConfig:
    values = TrainConfig(
        steps=epochs * batches,
        optimizer="adam",
        lr=1e-4,
        weight_decay=0.0,
        schedule="constant",
        warmup=0,
        clip_norm=None,
        validate_every=batches,
        keep=5,
        select_by="AP@0.10",
        augment=augment,
    )
    return values.model_copy(update={"sampler": values.sampler.model_copy(update={"foreground": foreground})})


def _augmentation(*, elastic: float) -> AugmentConfig:
    """Mirroring, full in-plane rotation, scaling by 0.91 to 1.25; no change of intensities."""
    return AugmentConfig(
        mirror=0.5,
        spatial=1.0,
        rotate=180.0,
        in_plane=True,
        scale=(1 / 1.1, 1.25),
        elastic=elastic,
        intensity=0.0,
    )


def _consolidate(max_detections: int) -> ConsolidateConfig:
    return ConsolidateConfig(
        iou_threshold=1e-5,
        one_vote_per_view=False,  # equation (2) sums over all members of a cluster
        min_score=0.01,
        max_detections=max_detections,
        merge_slices_iou=0.1,
    )
