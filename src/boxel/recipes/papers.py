"""The experiments of the Retina U-Net papers: with their literal numbers, and as their public toolkit has them.

`paper_*` have the numbers that the papers state; what they leave open (schedule, sampling, matching thresholds) is the
toolkit's. `mdt_*` have the toolkit's numbers throughout, see `Source` for what differs.

Every number: Jaeger et al., arXiv 1811.08661 and PMLR 116 (2020), and the Medical Detection Toolkit (commit 6753237).
Where the toolkit had defects, ours are the corrected rules: anchors sit on cell centres, boxes are tight and half-open,
box targets use (0.1, 0.2) for centre and size in any rank, detections are not rounded, slices are merged for slice-wise
models only, and every image of a toy set is distinct. The toolkit validates on 50 random batches of LIDC; ours
validates on 20 cases of whole patients and, for the five checkpoints that are kept, on all. What else differs by design
is named in `reproduces`, which is empty for models whose result the papers do not report.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from boxel.consolidation import ConsolidateConfig
from boxel.inference.config import PredictConfig
from boxel.loading.augment import NO_AUGMENTATION, AugmentConfig
from boxel.preparation.plan import PlanConfig
from boxel.recipes.experiment import Experiment
from boxel.recipes.paper_models import Sizes, Source, paper_model
from boxel.recipes.published import in_figure, in_table
from boxel.training.config import TrainConfig
from boxel.training.schedule import ConstantConfig

_PLANE = ((2, 2),) * 5
_VOLUME = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))


@dataclass(frozen=True)
class _Data:
    """A data set of the papers: mm per voxel, voxels of a patch of a slice and of a volume (z first), and remarks."""

    name: Literal["lidc", "breast"]
    spacing: tuple[float, float, float]
    plane: tuple[int, int]
    volume: tuple[int, int, int]
    validation_cases: int | None
    remark: str


_LIDC = _Data(
    "lidc", (1.25, 0.7, 0.7), (288, 288), (64, 128, 128), 20,
    "; malignancy with absent readers as 0: --option malignancy=all",
)  # fmt: skip
_BREAST = _Data("breast", (3.0, 1.25, 1.25), (160, 160), (56, 160, 160), None, "; schedule as for LIDC")


def _name(recipe: str, model: str) -> str:
    return recipe if model == "retina_unet" else f"{recipe}_{model}"


def _toy(name: str, model: str, source: Source, *, components: int, epochs: int, batches: int) -> Experiment:
    return Experiment(
        recipe=_name(name, model),
        reproduces=in_figure(model, f"one fixed split, {epochs} epochs of {batches} batches of 20"),
        plan=_plan(
            source, strides=_PLANE, patch_size=(320, 320), batch_size=20, max_detections=10, normalisation=("none",)
        ),
        model=paper_model(model, Sizes.PLANE, source, positives=1, components=components),
        train=_train(epochs=epochs, batches=batches, augment=NO_AUGMENTATION, foreground=0.0),
        predict=PredictConfig(views="plane", overlap=0.1, coverage="mean"),
        consolidate=_consolidate(10),
    )


def _slices(name: str, model: str, source: Source, data: _Data, context: int = 0) -> Experiment:
    return Experiment(
        recipe=_name(name, model),
        reproduces=in_table(data.name, "2dc" if context else "2d", model, data.remark),
        plan=_plan(
            source,
            ndim=2,
            context=context,
            spacing=data.spacing,
            strides=_PLANE,
            patch_size=data.plane,
            batch_size=20,
            max_detections=10,
        ),
        model=paper_model(model, Sizes.PLANE, source, positives=3, components=source.components[0]),
        train=_train(augment=_augmentation(elastic=8.0), foreground=0.5, validation_cases=data.validation_cases),
        predict=PredictConfig(views="plane", overlap=0.1, coverage="mean"),
        consolidate=_consolidate(100),
    )


def _volumes(name: str, model: str, source: Source, data: _Data) -> Experiment:
    return Experiment(
        recipe=_name(name, model),
        reproduces=in_table(data.name, "3d", model, f" (their z axis is our first){data.remark}"),
        plan=_plan(
            source, spacing=data.spacing, strides=_VOLUME, patch_size=data.volume, batch_size=8, max_detections=30
        ),
        model=paper_model(model, Sizes.VOLUME, source, positives=3, components=source.components[1]),
        train=_train(augment=_augmentation(elastic=0.0), foreground=0.5, validation_cases=data.validation_cases),
        predict=PredictConfig(views="plane", overlap=0.25, coverage="mean"),
        consolidate=_consolidate(30),
    )


def _plan(source: Source, **chosen: Any) -> PlanConfig:
    """Detection on P2 to P5 with fixed anchors."""
    return PlanConfig(levels=(2, 3, 4, 5), anchors=source.anchors, **chosen)


def _train(
    *,
    epochs: int = 100,
    batches: int = 200,
    augment: AugmentConfig,
    foreground: float,
    validation_cases: int | None = None,
) -> TrainConfig:
    values = TrainConfig(
        steps=epochs * batches,
        optimizer="adam",
        lr=1e-4,
        weight_decay=0.0,
        schedule=ConstantConfig(),
        warmup=0,
        clip_norm=None,
        validate_every=batches,
        validation_cases=validation_cases,
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


_SERIES = {
    "mdt_lidc": ("LIDC", Source.TOOLKIT, _LIDC),
    "paper_lidc": ("LIDC with the papers' numbers", Source.PAPER, _LIDC),
    "paper_breast": ("Breast diffusion MRI of 1.25 x 1.25 x 3 mm", Source.PAPER, _BREAST),
}
_SEEN: dict[str, tuple[str, Callable[..., Experiment]]] = {
    "2d": ("slice by slice, merged to volumes", _slices),
    "2dc": ("slices with three neighbours on either side as channels", partial(_slices, context=3)),
    "3d": ("as volumes", _volumes),
}
# By name: what it is, and `build(name, model)`.
# The papers state no schedule for the toy experiments; 100 epochs of 200 batches are the toolkit's when they appeared
# (commit bf77e01). Scaling would mix 19 and 20 pixels, the classes of one task: there is no augmentation.
PAPERS: dict[str, tuple[str, Callable[[str, str], Experiment]]] = {
    "mdt_toy": (
        "The toy experiments: 320 x 320, no augmentation, one positive anchor per image.",
        partial(_toy, source=Source.TOOLKIT, components=3, epochs=24, batches=100),
    ),
    "paper_toy": (
        "The toy experiments with the papers' numbers; for `boxel toy --preset paper`.",
        partial(_toy, source=Source.PAPER, components=5, epochs=100, batches=200),
    ),
    **{
        f"{series}_{seen}": (f"{data}, {how}.", partial(build, source=source, data=extents))
        for series, (data, source, extents) in _SERIES.items()
        for seen, (how, build) in _SEEN.items()
    },
}
