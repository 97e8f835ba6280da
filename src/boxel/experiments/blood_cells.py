"""Blood cells in photographs of smears (BCCD): YOLOv4, Faster R-CNN and Retina Net, the same time for each.

The official parts: 205 pictures to train on, 87 to validate, 72 to test. Every row trains for as many steps as fit into
twelve minutes of one core (`STEPS`), so that a training is repeatable, which one that ends by the clock is not.

Rows differ in one thing from YOLOv4 or its variant with a head on stride 4, on 320 x 240 pixels: the model; balanced
batches, in which the classes take turns; the optimiser; or the pixels of the pictures, which are 640 x 480. A platelet
is about 10, 20 or 40 pixels wide in the three sizes: that tests the claim of the benchmarking report on DeepLesion that
small objects need more pixels or a finer head.
"""

from boxel.experiments.cell import Cell
from boxel.experiments.grid import Claim, Grid, Value, Values
from boxel.experiments.sources import DataFolder, Source, project_data
from boxel.recipes import get_recipe

MODELS: dict[Value, str] = {
    "yolov4": "YOLOv4",
    "yolov4_fine": "YOLOv4, stride 4",
    "faster_rcnn": "Faster R-CNN",
    "retina_net": "Retina Net",
}
# By model and width in pixels; measured with one thread on an AMD EPYC (AVX2).
STEPS = {
    ("yolov4", 160): 4000, ("yolov4", 320): 1200, ("yolov4", 640): 340,
    ("yolov4_fine", 160): 4000, ("yolov4_fine", 320): 1200, ("yolov4_fine", 640): 330,
    ("faster_rcnn", 320): 6000, ("retina_net", 320): 5600,
}  # fmt: skip
_WIDTH, _HEIGHT = 640, 480
_OPTIMIZERS = {
    "adam": ("train.optimizer=adam", "train.lr=2e-3"),
    "sgd": ("train.optimizer=sgd", "train.lr=1e-2"),
}
_PLAIN: dict[str, Value] = {"pixels": 320, "order": "epoch", "optimizer": "adam"}


def blood_cells(preset: str, source: Source | None) -> Grid:
    data = source or DataFolder(path=project_data("blood_cells/BCCD"), format="voc")

    def cell(values: Values) -> Cell:
        model, pixels = str(values["model"]), int(values["pixels"])
        step = _WIDTH // pixels
        # Sizes of the input are multiples of the largest stride.
        size = [-(-length // step // 32) * 32 for length in (_HEIGHT, _WIDTH)]
        steps = STEPS[model, pixels]
        overrides = [
            f"seed={values['seed']}", "plan.spacing_unit=voxel", f"plan.spacing=[{step},{step}]",
            f"plan.patch_size=[{size[0]},{size[1]}]", f"train.steps={steps}", "train.batch_size=4",
            f"train.validate_every={steps // 3}", "train.select_by=AP@0.50", "train.sampler.foreground=0",
            f"train.sampler.order={values['order']}", *_OPTIMIZERS[str(values["optimizer"])],
        ]  # fmt: skip
        if model.startswith("yolov4"):
            overrides.append(f"plan.levels=[{2 if model == 'yolov4_fine' else 3},4,5]")
            overrides.append("plan.strides=[[2],[2],[2],[2],[2]]")
        experiment = get_recipe(f"{model.removesuffix('_fine')}_small").override(overrides)
        return Cell(source=data, experiment=experiment)

    return Grid(
        name="blood_cells",
        version=1,
        about="BCCD, detectors of boxes, twelve minutes of one core for each",
        axes={
            "model": tuple(MODELS), "pixels": (160, 320, 640), "order": ("epoch", "balanced"),
            "optimizer": tuple(_OPTIMIZERS), "seed": (0, 1, 2),
        },
        cell=cell,
        skip=_skip,
        reference={"model": "yolov4", **_PLAIN},
        metrics=("AP@0.50", *(f"AP@0.50/{name}" for name in ("RBC", "WBC", "Platelets")), "AP@0.10"),
        claims=_CLAIMS,
        labels=MODELS,
        seconds=800.0,
    )  # fmt: skip


def _skip(values: Values) -> bool:
    """Whether a row differs from the plain one in more than one thing, or in a thing that is asked of another model."""
    changed = [axis for axis, plain in _PLAIN.items() if values[axis] != plain]
    models = {"pixels": ("yolov4", "yolov4_fine"), "order": ("yolov4", "faster_rcnn"), "optimizer": ("yolov4",)}
    return len(changed) > 1 or any(values["model"] not in models[axis] for axis in changed)


def _claim(text: str, better: dict[str, Value], worse: dict[str, Value], metric: str) -> Claim:
    return Claim(text=text, better={**_PLAIN, **better}, worse={**_PLAIN, **worse}, metric=metric, margin=0.0)


_CLAIMS = (
    _claim("a head on stride 4 helps platelets", {"model": "yolov4_fine"}, {"model": "yolov4"}, "AP@0.50/Platelets"),
    _claim("balanced batches help YOLOv4", {"model": "yolov4", "order": "balanced"}, {"model": "yolov4"}, "AP@0.50"),
    _claim(
        "more pixels help platelets", {"model": "yolov4", "pixels": 640}, {"model": "yolov4", "pixels": 320},
        "AP@0.50/Platelets",
    ),
    _claim("YOLOv4 above Retina Net", {"model": "yolov4"}, {"model": "retina_net"}, "AP@0.50"),
    _claim("YOLOv4 above Faster R-CNN", {"model": "yolov4"}, {"model": "faster_rcnn"}, "AP@0.50"),
)  # fmt: skip
