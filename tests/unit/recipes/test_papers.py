"""The papers' recipes: every number that Jaeger et al. state, and where their toolkit has another.

Sections, tables and figures are those of arXiv 1811.08661; `T` is the Medical Detection Toolkit, commit 6753237.
"""

from typing import NamedTuple

import pytest

import boxel
from boxel.models import ModelConfig
from boxel.preparation.anchors import retina_unet_anchors
from boxel.recipes import get_recipe, recipes

SIX = ("retina_net", "retina_unet", "mask_rcnn", "faster_rcnn_plus", "ufrcnn_plus", "det_unet")
SEEN = ("2d", "2dc", "3d")
PAPER = [f"paper_{data}_{seen}" for data in ("lidc", "breast") for seen in SEEN]
TOOLKIT = [f"mdt_lidc_{seen}" for seen in SEEN]


class Cell(NamedTuple):
    """A row of table 1 or 2: mAP at IoU 0.1, and AP of patients for malignant lesions, in %."""

    precision: float
    patient: float


# Tables 1 (LIDC) and 2 (breast), copied row by row, in the order of `COLUMNS`.
COLUMNS = ("retina_unet", "retina_net", "det_unet", "ufrcnn_plus", "mask_rcnn")
LIDC = {
    "3d": ((49.8, 70.4), (45.9, 68.8), (36.6, 62.8), (50.5, 70.7), (48.3, 71.8)),
    "2dc": ((50.2, 73.9), (48.2, 71.5), (41.1, 66.1), (49.1, 71.6), (45.4, 69.1)),
    "2d": ((40.8, 68.0), (39.5, 67.7), (29.0, 59.8), (38.6, 66.4), (35.3, 63.6)),
}
BREAST = {
    "3d": ((35.8, 88.0), (31.9, 86.4), (26.9, 85.1), (35.1, 86.5), (34.0, 84.8)),
    "2dc": ((33.4, 86.9), (33.2, 84.4), (25.8, 81.6), (33.2, 84.7), (32.3, 86.4)),
    "2d": ((31.8, 85.2), (32.3, 86.1), (22.3, 80.1), (33.1, 83.7), (33.6, 86.8)),
}
PUBLISHED = [
    (f"{prefix}_{seen}", model, table, cell)
    for prefix, table, rows in (("mdt_lidc", 1, LIDC), ("paper_lidc", 1, LIDC), ("paper_breast", 2, BREAST))
    for seen, cells in rows.items()
    for model, cell in zip(COLUMNS, map(Cell._make, cells), strict=True)
]


@pytest.mark.parametrize(("recipe", "model", "table", "cell"), PUBLISHED)
def test_a_recipe_claims_the_published_result_of_its_own_model(recipe, model, table, cell):
    claim = get_recipe(recipe, model).reproduces
    assert f"{model}, arXiv 1811.08661 table {table}: mAP10 {cell.precision}, patient AP {cell.patient}" in claim
    assert ("LIDC" if "lidc" in recipe else "breast") in claim


@pytest.mark.parametrize("recipe", [*PAPER, *TOOLKIT])
def test_the_tables_have_no_faster_rcnn(recipe):
    assert get_recipe(recipe, "faster_rcnn_plus").reproduces == ""


@pytest.mark.parametrize("recipe", ["paper_toy", "mdt_toy"])
@pytest.mark.parametrize("model", SIX)
def test_figure_5_compares_all_six_models_on_toy_images(recipe, model):
    assert "figure 5" in get_recipe(recipe, model).reproduces


@pytest.mark.parametrize("recipe", [name for name in (*PAPER, *TOOLKIT) if "lidc" in name])
def test_the_rule_for_absent_readers_is_named_with_its_option(recipe):
    """Counted from the public tables in tests/golden/test_lidc_classes.py."""
    assert "absent readers as 0: --option malignancy=all" in get_recipe(recipe).reproduces


@pytest.mark.parametrize("name", [name for name in recipes() if name.startswith("paper_")])
def test_anchors_have_the_sizes_of_the_papers(name):
    """Section 4.1: 4^2, 8^2, 16^2, 32^2 on P2 to P5; z scales 1, 2, 4, 8 in 3D. T: each is twice as large."""
    plan = get_recipe(name).plan
    ndim = len(plan.patch_size)
    assert (plan.anchors, plan.levels) == ("paper", (2, 3, 4, 5))
    assert get_recipe("mdt_lidc_2d").plan.anchors == "mdt"
    for preset, factor in (("paper", 1), ("mdt", 2)):
        levels = retina_unet_anchors(ndim, plan.levels, preset)
        # Ratio outer, octave inner: the fourth of nine is the square of the base scale.
        squares = [level[3] for level in levels]
        base = [4 * factor * 2**k for k in range(4)]
        assert squares == [pytest.approx((b / 4,) * (ndim - 2) + (b, b)) for b in base]


def test_there_are_experiments_for_every_table_and_figure():
    assert {name for name in recipes() if name.startswith("paper_")} == {"paper_toy", *PAPER}


@pytest.mark.parametrize(
    ("recipe", "spacing", "patch", "batch", "context"),
    [
        # Section 4.4.1: 0.7 x 0.7 x 1.25 mm, 288 x 288, in 3D 128 x 128 x 64. Section 4.2: batches of 20, in 3D of 8;
        # 2Dc has three neighbours on either side.
        ("lidc_2d", (1.25, 0.7, 0.7), (288, 288), 20, 0),
        ("lidc_2dc", (1.25, 0.7, 0.7), (288, 288), 20, 3),
        ("lidc_3d", (1.25, 0.7, 0.7), (64, 128, 128), 8, 0),
        # Section 4.5.1: 1.25 x 1.25 x 3 mm, 160 x 160, in 3D 160 x 160 x 56.
        ("breast_2d", (3.0, 1.25, 1.25), (160, 160), 20, 0),
        ("breast_2dc", (3.0, 1.25, 1.25), (160, 160), 20, 3),
        ("breast_3d", (3.0, 1.25, 1.25), (56, 160, 160), 8, 0),
        # Section 4.6.1: images of 320 x 320.
        ("toy", None, (320, 320), 20, 0),
    ],
)
def test_data_are_sampled_as_published(recipe, spacing, patch, batch, context):
    plan = get_recipe(f"paper_{recipe}").plan
    assert (plan.spacing, plan.patch_size, plan.batch_size, plan.context) == (spacing, patch, batch, context)


@pytest.mark.parametrize("name", ["paper_toy", *PAPER])
def test_training_and_prediction_are_as_published(name):
    """Section 4.2: Adam, learning rate 1e-4, five best epochs, mirrored views. T, 2018: 100 epochs of 200 batches.

    Section 3.2, eq. (2) sums over all boxes of a cluster. Section 4.3: IoU 0.1.
    """
    experiment = get_recipe(name)
    train = experiment.train
    assert (train.optimizer, train.lr, train.weight_decay, train.schedule.type_name) == ("adam", 1e-4, 0.0, "constant")
    assert (train.steps, train.validate_every, train.keep, train.select_by) == (20_000, 200, 5, "AP@0.10")
    assert experiment.predict.views == "plane"
    assert not experiment.consolidate.one_vote_per_view


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
@pytest.mark.parametrize("name", PAPER)
def test_volumes_are_prepared_and_planned_with_the_published_numbers(native, tmp_path, name):
    store = boxel.prepare(native, tmp_path / "work", recipe=name, num_folds=3, workers=0)
    experiment = get_recipe(name)
    assert store.task.spacing == experiment.plan.spacing
    assert (store.task.ndim, store.task.patch_size) == (len(experiment.plan.patch_size), experiment.plan.patch_size)
    shape, spacing = (12, 14, 16), (1.5, 1.0, 0.5)  # of the fixture
    expected = [n * s / to for n, s, to in zip(shape, spacing, experiment.plan.spacing, strict=True)]
    assert store.meta("a").shape == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("prefix", ["paper", "mdt"])
def test_lidc_is_validated_on_twenty_cases_until_the_end(prefix):
    """One validation on 207 scans costs 5 (3D) to 17 (2D) times the patches of an epoch."""
    for seen in SEEN:
        train = get_recipe(f"{prefix}_lidc_{seen}").train
        assert (train.validation_cases, train.keep, train.validate_every) == (20, 5, 200)
    assert get_recipe(f"{prefix}_toy").train.validation_cases is None  # section 4.6.1: 500 images


@pytest.mark.parametrize("name", ["paper_toy", *PAPER])
@pytest.mark.parametrize("model", SIX)
def test_models_have_the_numbers_of_the_papers(name, model):
    """Section 4.1 for the numbers in 3D; section 3.1 for towers of 64 features there."""
    config = get_recipe(name, model).model
    volumes = name.endswith("3d")
    if hasattr(config, "rpn"):
        assert config.rpn.filters == (64 if volumes else 512)  # 2D: T
    if hasattr(config, "dense"):
        assert config.dense.softmax
        assert config.dense.filters == (64 if volumes else 256)  # 2D: T
    if hasattr(config, "roi"):
        assert config.roi.pool_size == ((3, 7, 7) if volumes else (7, 7))
        assert config.roi.positive == (0.3 if volumes else 0.5)  # 2D: T
    if hasattr(config, "mask"):
        assert config.mask.pool_size == ((5, 14, 14) if volumes else (14, 14))
    if ModelConfig.registry[model].segments:
        assert (config.segmentation_loss, config.segmentation_weight) == ("paper", 1.0)  # eq. (1)
    if model == "det_unet":
        assert (config.candidates, config.candidates_per) == (15 if volumes else 5, "image")
        assert config.min_voxels == 1  # no size is too small


def test_models_of_the_toolkit_differ_where_it_does():
    """T: 128 features in the 3D RPN, 10 and 30 components of each class (toy: 3), its own form of eq. (1)."""
    assert get_recipe("mdt_lidc_3d", "mask_rcnn").model.rpn.filters == 128
    for name, components in {"mdt_lidc_2d": 10, "mdt_lidc_2dc": 10, "mdt_lidc_3d": 30, "mdt_toy": 3}.items():
        model = get_recipe(name, "det_unet").model
        assert (model.candidates, model.candidates_per, model.min_voxels) == (components, "class", 1)
        # Cross-entropy and Dice are not halved in the DetU-Net; our form `mdt` halves them.
        assert (model.segmentation_loss, model.segmentation_weight) == ("mdt", 2.0)
        assert get_recipe(name, "retina_unet").model.segmentation_weight == 1.0


@pytest.mark.parametrize("name", ["paper_toy", *PAPER])
def test_only_images_of_lesions_are_augmented(name):
    """Section 4.2: "extensive data augmentation". Scaling would mix the classes of the third toy task, 19 and 20 px."""
    augment = get_recipe(name).train.augment
    assert (augment.mirror, augment.spatial) == ((0.0, 0.0) if name == "paper_toy" else (0.5, 1.0))
