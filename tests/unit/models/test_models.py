"""What every registered model keeps in 2D and 3D, beyond the public check, and the sizes of the papers' models."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from boxel.api.listing import count_parameters
from boxel.models import (
    BoxLossConfig,
    ClassLossConfig,
    FocalConfig,
    IoUMatcherConfig,
    MatcherConfig,
    MiningConfig,
    ModelConfig,
    OverlapLossConfig,
    SampledConfig,
    SmoothL1Config,
)
from boxel.models.loss_terms import mostly_ignored
from boxel.models.segmentation import segmentation_target
from tests.unit.builders import ALWAYS_SEGMENT, MODELS, make_batch, make_instances, make_task


@pytest.fixture(params=sorted(MODELS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return MODELS[request.param]


def test_where_objects_are_known_by_their_boxes_alone_only_boxes_are_learnt(ndim, config):
    task = make_task(ndim, masks=False)
    batch = make_batch(task, 2)
    boxes_only = [replace(one, has_mask=torch.zeros_like(one.has_mask)) for one in batch.instances]
    batch = replace(batch, instances=boxes_only, label_maps=torch.zeros_like(batch.label_maps))
    terms = config.build(task)(batch.images, batch)
    assert all(torch.isfinite(term) for term in terms.values())
    assert terms.pop("mask", 0) == 0
    if config.type_name in ALWAYS_SEGMENT:  # have nothing else: they take ellipses in the boxes for the objects
        assert all(terms.values())
    else:
        assert terms.pop("segmentation", 0) == 0
        assert all(term > 0 for term in terms.values())


def test_the_loss_is_the_same_after_train_and_eval(ndim, config):
    """Also where an image may have more detections than the first stage proposes for training."""
    task = make_task(ndim, max_detections=400)
    model, batch = config.build(task), make_batch(task, 2)
    losses = []
    for mode in (True, False):
        torch.manual_seed(1)  # RoIs are drawn
        losses.append({name: term.item() for name, term in model.train(mode)(batch.images, batch).items()})
    assert losses[0] == losses[1]


def test_bfloat16_changes_the_losses_little(ndim, config):
    task = make_task(ndim)
    torch.manual_seed(0)
    model, batch = config.build(task), make_batch(task, 2)
    totals = []
    for enabled in (False, True):
        torch.manual_seed(1)  # RoIs and hard examples are drawn
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = model(batch.images, batch)
        assert all(term.dtype == torch.float32 for term in terms.values())
        total = sum(terms.values())
        total.backward()
        totals.append(total.item())
    assert totals[1] == pytest.approx(totals[0], rel=0.1, abs=0.05)


@pytest.mark.parametrize("some", [True, False], ids=["some", "none"])
def test_masks_come_with_the_detections_where_the_model_has_them(ndim, config, some):
    task = make_task(ndim)
    floor = {"min_score": 0.0 if some else 1.1}
    part = next((name for name in ("dense", "roi", "components", "first") if name in type(config).model_fields), None)
    if config.type_name == "coarse_to_fine":
        floor = {"components": config.first.components.model_copy(update=floor)}
    update = {part: getattr(config, part).model_copy(update=floor)} if part else floor
    model = config.model_copy(update=update).build(task).eval()
    with torch.inference_mode():
        plain, masked = model(make_batch(task, 2).images), model(make_batch(task, 2).images, masks=config.gives_masks)
    for one, other in zip(plain, masked, strict=True):
        assert one.masks is None
        assert torch.equal(one.boxes, other.boxes)
        assert some or not len(one)
        if config.gives_masks:
            assert other.masks.shape[0] == len(other)
            assert other.masks.ndim == ndim + 1
            assert ((other.masks >= 0) & (other.masks <= 1)).all()


def test_the_network_compiles_as_one_graph_with_the_lazy_level_in_it():
    """In a process of its own: the shape checks of the tests cannot be compiled."""
    code = """
import torch
from tests.unit.builders import make_task, tiny

for name in ("retina_unet", "det_unet"):
    model, images = tiny(name).build(make_task(2)).eval(), torch.randn(1, 1, 24, 24)
    compiled = torch.compile(model.infer, backend="eager", fullgraph=True)(images, segmentation=True)
    torch.testing.assert_close(compiled.segmentation, model.infer(images, segmentation=True).segmentation)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("softmax", [True, False], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("matcher", [MatcherConfig.registry["atss"](), IoUMatcherConfig()], ids=lambda c: c.type_name)
@pytest.mark.parametrize(
    "class_loss", [FocalConfig(), MiningConfig(max_positives=3), SampledConfig()], ids=lambda c: c.type_name
)
@pytest.mark.parametrize("box_loss", [SmoothL1Config(), OverlapLossConfig()], ids=lambda c: c.type_name)
def test_every_combination_of_choices_learns(
    softmax: bool, matcher: MatcherConfig, class_loss: ClassLossConfig, box_loss: BoxLossConfig
):
    torch.manual_seed(0)
    task = make_task(2)
    dense = MODELS["retina_net"].dense.model_copy(
        update={"softmax": softmax, "matcher": matcher, "class_loss": class_loss, "box_loss": box_loss}
    )
    model = MODELS["retina_net"].model_copy(update={"dense": dense}).build(task)
    batch = make_batch(task, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(25):
        loss = sum(model(batch.images, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


@pytest.mark.parametrize("name", ["retina_unet", "ufrcnn_plus"])
def test_where_no_object_has_a_mask_no_time_goes_into_the_segmentation(ndim, name):
    """And the boxes learn the same."""
    task = make_task(ndim, masks=False)
    model, batch = MODELS[name].build(task), make_batch(task, 2)
    terms = []
    for call in (
        lambda: model(batch.images, batch),
        lambda: model.loss(model.infer(batch.images, segmentation=True), batch),
    ):
        torch.manual_seed(0)  # RoIs are drawn
        terms.append(call())
    assert terms[1].pop("segmentation") == 0
    assert terms[0] == terms[1]
    assert not model.learns_segmentation
    assert MODELS[name].build(make_task(ndim)).learns_segmentation


def test_the_segmentation_target_marks_masks_and_ignores_boxes_without_mask(ndim):
    task = make_task(ndim)
    batch = make_batch(task, 1, objects=0)
    batch.label_maps[(0, *(slice(2, 6),) * ndim)] = 7
    both = make_instances([[[2] * ndim, [6] * ndim], [[10] * ndim, [14] * ndim]], [1, 0], ndim)
    both = replace(both, ids=torch.tensor([7, 8]), has_mask=torch.tensor([True, False]))
    batch = replace(batch, instances=[both])
    target = segmentation_target(batch, by_class=True)[0]
    assert (target[(slice(2, 6),) * ndim] == 2).all()
    assert (target[(slice(10, 14),) * ndim] == -1).all()
    assert (target == 0).sum() == target.numel() - 2 * 4**ndim
    assert segmentation_target(batch, by_class=False).max() == 1


def test_a_single_level_and_uneven_strides_work():
    task = make_task(
        3,
        patch_size=(8, 32, 48),
        strides=((1, 2, 2), (1, 2, 2), (2, 2, 2)),
        levels=(3,),
        anchors=(((4.0, 8.0, 8.0),),),
    )
    model = MODELS["retina_unet"].build(task)
    outputs = model.infer(torch.randn(1, 1, 8, 32, 48), segmentation=True)
    assert outputs.segmentation.shape == (1, 2, 8, 32, 48)
    assert len(outputs.dense.anchors) == 4 * 4 * 6


# Published counts: specification table 1.3. The toolkit builds a P1 lateral and a P1 smoothing convolution that
# nothing uses: in 2D 48 * 192 + 192 and 192 * 192 * 9 + 192 weights, in 3D 18 * 36 + 36 and 36 * 36 * 27 + 36. The
# U-FPN uses the lateral, so only its smoothing is dead. The two models without masks have a mask head there. The
# DetU-Net looks at P0 only, so the smoothing of its P2 to P5 is dead as well.
DEAD = {
    "retina_net": ("lateral", "smoothing"),
    "retina_unet": ("smoothing",),
    "mask_rcnn": ("lateral", "smoothing"),
    "faster_rcnn_plus": ("lateral", "smoothing", "mask_head"),
    "ufrcnn_plus": ("smoothing", "mask_head"),
    "det_unet": ("smoothing",) * 5,
}
IN_2D = {"lateral": 9_408, "smoothing": 331_968, "mask_head": 1_476_099}
IN_3D = {"lateral": 684, "smoothing": 35_028, "mask_head": 150_627}


@pytest.mark.parametrize(
    ("recipe", "published", "sizes"),
    [
        ("mdt_toy", {"retina_net": 20_004_287, "retina_unet": 20_477_857, "mask_rcnn": 25_632_164,
                     "faster_rcnn_plus": 25_632_164, "ufrcnn_plus": 26_105_927, "det_unet": 15_907_107}, IN_2D),
        ("mdt_lidc_3d", {"retina_net": 4_802_021, "retina_unet": 4_952_035, "mask_rcnn": 4_937_876,
                         "faster_rcnn_plus": 4_937_876, "ufrcnn_plus": 5_087_927, "det_unet": 4_023_543}, IN_3D),
        ("mdt_lidc_2dc", {"retina_net": 20_004_287 + 14_112, "retina_unet": 20_477_857 + 2_592}, IN_2D),
    ],
)  # fmt: skip
def test_the_papers_recipes_have_the_published_number_of_parameters(recipe, published, sizes):
    table = count_parameters(recipe)
    counts = {model: table[model]["parameters"]["total"] for model in published}
    assert counts == {model: total - sum(sizes[part] for part in DEAD[model]) for model, total in published.items()}


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        ("mdt_toy", {"retina_net": {"dense.classes": 2_275_099, "dense.boxes": 2_295_844},
                     "mask_rcnn": {"rpn": 894_482, "roi": 7_828_239, "masks": 1_476_099},
                     "retina_unet": {"segmenter": 386, "encoder+neck": 15_906_528 - 331_968}}),
        ("mdt_lidc_3d", {"retina_net": {"dense.classes": 440_923, "dense.boxes": 487_606},
                         "mask_rcnn": {"rpn": 127_640, "roi": 786_117, "masks": 150_627},
                         "retina_unet": {"segmenter": 74, "encoder+neck": 4_023_432 - 35_028}}),
    ],
)  # fmt: skip
def test_the_parts_of_the_papers_models_have_the_published_number_of_parameters(recipe, parts):
    """Specification, below table 1.3."""
    table = count_parameters(recipe)
    for model, published in parts.items():
        counts = table[model]["parameters"]
        assert {names: sum(counts[name] for name in names.split("+")) for names in published} == published


def test_the_segmentation_learns_classes_where_asked():
    config = MODELS["retina_unet"].model_copy(update={"segment": "classes"})
    assert config.build(make_task(2)).infer(torch.randn(1, 1, 32, 32), segmentation=True).segmentation.shape[1] == 3


def test_nothing_is_learnt_from_a_region_to_ignore_but_its_objects(ndim, config):
    task = make_task(ndim)
    model = config.build(task).train()
    everything = torch.tensor([[[-100.0] * ndim, [200.0] * ndim]])
    empty, full = make_batch(task, 2, objects=0), make_batch(task, 2, objects=2)
    terms = {}
    for name, batch in {"empty": empty, "full": full}.items():
        for ignored in ([], [everything] * 2):
            torch.manual_seed(0)
            terms[name, bool(ignored)] = model(batch.images, replace(batch, ignored=ignored))
    assert sum(terms["empty", False].values()) > 0
    assert sum(terms["empty", True].values()) == 0
    assert all(terms["full", True][name] == term for name, term in terms["full", False].items() if name == "box")
    # Cross-entropy minus Dice may be below 0.
    assert all(term > 0 or (name == "segmentation" and term != 0) for name, term in terms["full", True].items())


def test_an_anchor_is_ignored_from_half_of_it_on(ndim):
    anchors = torch.tensor([[[0.0] * ndim, [4.0] * ndim], [[1.0] * ndim, [5.0] * ndim], [[9.0] * ndim, [10.0] * ndim]])
    half = torch.tensor([[0.0] * ndim, [2.0] + [5.0] * (ndim - 1)])
    assert mostly_ignored(anchors, half[None]).tolist() == [True, False, False]
    assert mostly_ignored(anchors, half[None][:0]).tolist() == [False] * 3
    two = torch.stack([half, half + 9])
    assert mostly_ignored(anchors, two).tolist() == [True, False, True]


def test_an_ignored_region_is_no_background_to_the_segmentation(ndim):
    batch = make_batch(make_task(ndim), 1, objects=0)
    batch.label_maps[(0, *(slice(2, 6),) * ndim)] = 1
    region = torch.tensor([[[4.0] * ndim, [9.5] * ndim]])
    batch = replace(batch, instances=[make_instances([[[2] * ndim, [6] * ndim]], [1], ndim)], ignored=[region])
    target = segmentation_target(batch, by_class=True)[0]
    assert (target == 2).sum() == 4**ndim
    assert (target == -1).sum() == 6**ndim - 2**ndim
