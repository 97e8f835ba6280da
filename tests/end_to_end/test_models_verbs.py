"""All six models through the verbs: masks, objects without masks."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import boxel
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.toy import make_toy
from boxel.export.boxel_json import read_detections, write_detections
from boxel.io import read_image, read_label_map
from boxel.models import ModelConfig
from boxel.ops import paste_mask
from boxel.recipes import get_recipe
from boxel.types import Detections, Geometry, Image
from tests.end_to_end.commands import boxel as command
from tests.end_to_end.commands import refused, set_words
from tests.unit.builders import tiny

QUICK = (
    "train.steps=3", "train.validate_every=3", "train.batch_size=2", "train.num_workers=0", "train.accelerator=cpu",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
)  # fmt: skip
PART_WITH_MIN_SCORE = {
    "det_unet": "", "retina_unet": ".dense", "retina_net": ".dense", "unet": ".components", "lsnet": ".first",
    "coarse_to_fine": ".first.components",
}  # fmt: skip
SET = set_words(QUICK)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Toy volumes, prepared: each row of the fixture's users trains on them."""
    root = tmp_path_factory.mktemp("volumes")
    make_toy(root / "data", num_train=4, num_val=1, num_test=1, ndim=3, size=32)
    boxel.prepare(root / "data", root / "work", recipe="mask_rcnn_small", overrides=QUICK)
    return root


@pytest.mark.parametrize("model", sorted(ModelConfig.registry))
def test_a_model_gives_masks_and_a_segmentation_or_says_that_it_has_none(volumes, tmp_path, model):
    recipe = get_recipe("retina_unet_small", model).model_copy(update={"model": tiny(model)})
    boxel.train(volumes / "work", tmp_path / "run", recipe=recipe, overrides=QUICK[:-3] + QUICK[-1:])
    if model in ("unet", "coarse_to_fine"):
        expect_foreground(tmp_path / "run")
    check_segmentation(volumes, tmp_path / "run", model)
    image = volumes / "data" / "imagesTs" / "test_00000_0000.mha"
    part = PART_WITH_MIN_SCORE.get(model, ".roi")
    floor = [f"model{part}.min_score=0.0", "consolidate.min_score=0.0"]
    if not ModelConfig.registry[model].gives_masks:
        with pytest.raises(ValueError, match=f"{model} predicts boxes only"):
            boxel.load(tmp_path / "run", overrides=["predict.masks=true"])
        return
    with_masks = boxel.load(tmp_path / "run", overrides=["predict.masks=true", *floor]).predict(image)
    plain = boxel.load(tmp_path / "run", overrides=floor).predict(image)
    assert plain.masks is None
    assert np.allclose(with_masks.boxes, plain.boxes, atol=1e-4)
    assert with_masks.masks.shape[0] == len(with_masks) > 0
    assert with_masks.masks.ndim == 4
    assert (with_masks.masks >= 0).all()
    assert (with_masks.masks <= 1).all()


def expect_foreground(run):
    """U-Nets start at background, and three steps do not change that: raise the biases of the foreground."""
    for file in (run / "checkpoints").glob("*.safetensors"):
        state = load_file(file)
        for key in state:
            if key.endswith("head.bias"):
                state[key][1:] += 9.0
        save_file(state, file)


def check_segmentation(volumes, run, model):
    image = volumes / "data" / "imagesTs" / "test_00000_0000.mha"
    if not ModelConfig.registry[model].segments:
        out = run.parent / "p"
        refused("predict", run, image, "--out", out, "--segmentation", says=f"its {model} does not segment")
        assert not out.exists()
        return
    detector = boxel.load(run, overrides=["predict.segmentation=true"])
    detections, labels = detector.segment(image)
    assert labels.shape == read_image(image).geometry.shape == detections.geometry.shape
    assert labels.max() <= len(detector.segmentation_classes)


def test_masks_are_written_and_read_back_and_painted(volumes, tmp_path):
    work, images = volumes / "work", volumes / "data" / "imagesTs"
    command("train", work, "--out", tmp_path / "run", "--recipe", "retina_unet_small", "--model", "mask_rcnn", *SET)
    command("predict", tmp_path / "run", images, "--out", tmp_path / "p", "--masks", "--to", "nifti", "--all")
    _, detections, _ = read_detections(tmp_path / "p" / "test_00000.json")
    painted = read_image(next((tmp_path / "p" / "nifti").glob("*_boxes.nii.gz"))).array[0]
    number = int(painted.max())
    region, mask = paste_mask(
        detections.masks[number - 1].astype(np.float32), detections.boxes[number - 1], painted.shape
    )
    assert ((painted == number).sum() == mask.sum()) or not mask.any()
    assert (painted[region][mask] == number).all()


def test_objects_known_by_boxes_alone_train_every_model_and_the_log_says_so(rng, tmp_path):
    boxes = [
        {"id": 1, "label": 0, "lower": [4, 4], "upper": [20, 24]},
        {"id": 2, "label": 1, "lower": [30, 30], "upper": [50, 44]},
    ]
    for case in "abcde":
        image = Image(rng.normal(size=(1, 64, 64)).astype(np.float32), Geometry.plain((64, 64)))
        write_case(tmp_path / "data", case, image, None, {})
        (tmp_path / "data" / "labelsTr" / f"{case}.json").write_text(json.dumps({"boxes": boxes}))
    write_dataset(tmp_path / "data", "boxes", 2, ["benign", "malignant"], ["MR"])
    command("prepare", tmp_path / "data", "--out", tmp_path / "work", "--recipe", "mask_rcnn_small", *SET)
    for model in ("mask_rcnn", "det_unet"):
        recipe = ("--recipe", f"{model}_small", *SET)
        result = command("train", tmp_path / "work", "--out", tmp_path / model, *recipe)
        assert "no object has a mask" in result.stderr
        steps = [json.loads(line) for line in (tmp_path / model / "metrics.jsonl").read_text().splitlines()]
        assert all(step.get("loss/mask", 0.0) == 0.0 for step in steps)
    image = tmp_path / "data" / "imagesTr" / "a_0000.nii.gz"
    refused("predict", tmp_path / "mask_rcnn", image, "--out", tmp_path / "p", "--masks", says="trained without masks")
    assert boxel.load(tmp_path / "det_unet", overrides=["predict.segmentation=true"]).segment(image)[1].any()


def test_the_boxes_of_any_detector_are_segmented_by_the_second_stage_of_l_snet(volumes, tmp_path):
    work, images = volumes / "work", volumes / "data" / "imagesTs"
    for model in ("lsnet", "unet"):
        recipe = get_recipe("retina_unet_small", model).model_copy(update={"model": tiny(model)})
        boxel.train(work, tmp_path / model, recipe=recipe, overrides=QUICK[:-3])
    geometry = read_image(images / "test_00000_0000.mha").geometry
    boxes = np.array([[[4] * 3, [9] * 3]], np.float32)
    labels = np.zeros(len(boxes), np.int64)
    detections = Detections(boxes, np.ones(len(boxes), np.float32), labels, geometry=geometry)
    write_detections(tmp_path / "given" / "test_00000.json", detections, "test_00000", ("anything",))
    words = ("predict", tmp_path / "lsnet", images, "--out", tmp_path / "out", "--boxes", tmp_path / "given")
    refused(*words, says="add --segmentation")
    command(*words, "--segmentation")
    _, written, classes = read_detections(tmp_path / "out" / "test_00000.json")
    assert np.array_equal(written.boxes, boxes)
    assert classes == ("anything",)
    segmented = read_label_map(tmp_path / "out" / "test_00000_seg.nii.gz").array
    assert segmented.shape == geometry.shape
    segmented[(slice(0, 18),) * 3] = 0  # the box and 7.5 voxels around it
    assert not segmented.any()
    before = (tmp_path / "out" / "test_00000.json").stat().st_mtime_ns
    command(*words, "--segmentation")  # resumes: all is done
    assert (tmp_path / "out" / "test_00000.json").stat().st_mtime_ns == before
    rated = Detections(boxes, detections.scores / 2, labels, geometry=geometry)
    write_detections(tmp_path / "given" / "test_00000.json", rated, "test_00000", ("anything",))
    command(*words, "--segmentation")  # other scores: predicted again
    assert read_detections(tmp_path / "out" / "test_00000.json")[1].scores.tolist() == [0.5]
    words = ("predict", tmp_path / "unet", images, "--out", tmp_path / "o", "--boxes", tmp_path / "given")
    says = f"{tmp_path / 'unet'}: UNet does not segment given boxes; choose a model"
    refused(*words, "--segmentation", says=says)
    words = (words[0], tmp_path / "lsnet", *words[2:])
    refused(*words, "--with", tmp_path / "unet", "--segmentation", says=says)
    refused(*words, "--segmentation", "--masks", says="--masks has no effect with --boxes")
    refused(*words, "--segmentation", "--set", "predict.views=all", says="--set predict.views has no effect with --box")
    other = Detections(boxes, detections.scores, labels, geometry=Geometry.plain((9, 9, 9)))
    write_detections(tmp_path / "given" / "test_00000.json", other, "test_00000", ("anything",))
    refused(*words, "--segmentation", says="boxes on a grid of shape (9, 9, 9)")


class StoppedError(Exception):
    pass


def test_a_stopped_training_of_l_snet_ends_like_an_uninterrupted_one(volumes, tmp_path):
    """Both phases, their moments in one optimiser, and the steps of the warm-up that are done."""

    def stop(what: str, done: int, total: int) -> None:
        if done == 2:
            raise StoppedError

    model = tiny("lsnet").model_copy(update={"warmup_truth": 3})
    recipe = get_recipe("retina_unet_small", "lsnet").model_copy(update={"model": model})
    choices = {"recipe": recipe, "overrides": [*QUICK[:5], "train.steps=5", "train.save_every=1"]}
    whole = boxel.train(volumes / "work", tmp_path / "whole", **choices)
    with pytest.raises(StoppedError):
        boxel.train(volumes / "work", tmp_path / "run", progress=stop, **choices)
    resumed = boxel.train(volumes / "work", tmp_path / "run", **choices)
    for name in ("weights.safetensors", "resume.safetensors"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
