"""What models and sets of objects refuse: one clear error, whichever the model, instead of a silent wrong result."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from boxel import Batch, Instances
from boxel.models import DenseConfig, ModelConfig, PyramidGrid, RetinaNet, RetinaUNetConfig
from tests.unit.builders import make_batch, make_task, tiny

MODELS = sorted(ModelConfig.registry)


@pytest.fixture(params=MODELS)
def model(request, ndim):
    return tiny(request.param).build(make_task(ndim))


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_that_is_no_class_of_the_model_is_refused(model, ndim, label):
    batch = make_batch(make_task(ndim), 2)
    wrong = replace(batch.instances[1], labels=torch.tensor([label]))
    batch = replace(batch, instances=[batch.instances[0], wrong])
    with pytest.raises(ValueError, match=rf"image 1 \(case '1'\) has an object with label {label}.*0\.\.1"):
        model(batch.images, batch)
    with pytest.raises(ValueError, match=f"label {label}"):
        model.loss(model.infer(batch.images, segmentation=True), batch)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda batch: {"instances": batch.instances[:1]}, "2 images, but instances of 1"),
        (lambda batch: {"instances": []}, "2 images, but instances of 0"),
        (lambda batch: {"ignored": [batch.instances[0].boxes]}, "2 images, but ignored of 1"),
    ],
)
def test_a_batch_lists_the_objects_of_every_image(model, ndim, change, says):
    batch = make_batch(make_task(ndim), 2)
    batch = replace(batch, **change(batch))
    with pytest.raises(ValueError, match=says):
        model(batch.images, batch)


def test_boxes_have_the_axes_of_the_images(model, ndim):
    flat = Instances.from_boxes([[[1] * (ndim + 1), [4] * (ndim + 1)]], [0])
    batch = Batch(make_batch(make_task(ndim), 1).images, instances=[flat])
    with pytest.raises(ValueError, match=f"image 0 has {ndim} axes, but its boxes have {ndim + 1}"):
        model(batch.images, batch)


def test_suppression_by_level_needs_candidates_by_level():
    with pytest.raises(ValueError, match="nms_per_level has no effect on candidates of all levels"):
        DenseConfig(nms_per_level=True)


def test_an_unknown_phase_names_the_known_ones(model, ndim):
    images = make_batch(make_task(ndim), 1).images
    with pytest.raises(ValueError, match=r"phase is 'nope'\. Known: all"):
        model.infer(images, phase="nope")
    with pytest.raises(ValueError, match="phase is 'nope'"):
        model(images, make_batch(make_task(ndim), 1), phase="nope")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ndim": 4}, "ndim is 4; it must be the number of spatial axes: 1, 2, 3"),
        ({"in_channels": 0}, "in_channels is 0; it must be a whole number, 1 or more"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"max_detections": 0}, "max_detections is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(ndim, name, change, says):
    model_class = type(tiny(name).build(make_task(ndim)))
    with pytest.raises(ValueError, match=says):
        model_class(**{"ndim": ndim, "in_channels": 1, "num_classes": 2} | change)


def test_the_configuration_and_the_grid_must_be_those_of_the_model(ndim):
    with pytest.raises(TypeError, match=r"RetinaNet needs a RetinaNetConfig, got RetinaUNetConfig.*config="):
        RetinaNet(ndim, 1, 2, config=RetinaUNetConfig())
    with pytest.raises(ValueError, match=rf"the grid is for images with {5 - ndim} axes, but ndim is {ndim}"):
        RetinaNet(ndim, 1, 2, config=tiny("retina_net"), grid=PyramidGrid.default(5 - ndim))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
@pytest.mark.parametrize(
    ("box", "label", "says"),
    [
        ([[9, 9], [0, 0]], 0, r"boxes must have the lower corner first.*in row 1"),
        ([[0, 0], [np.nan, 9]], 0, r"boxes must be finite.*in row 1"),
        ([[0, 0], [np.inf, 9]], 0, "boxes must be finite"),
        ([[0, 0], [9, 9]], 0.7, r"labels must be class indices \(integers\)"),
        ([[0, 0], [9, 9]], -1, "labels must be class indices, 0 or more, got -1 in row 1"),
    ],
)
def test_objects_that_an_evaluation_would_refuse_are_refused(ndim, kind, box, label, says):
    boxes = [[[1] * ndim, [4] * ndim], [[*corner, *corner[:1]][:ndim] for corner in box]]
    with pytest.raises(ValueError, match=says):
        Instances.from_boxes(kind(boxes), kind([0, label]))


@pytest.mark.parametrize(
    ("boxes", "labels", "says"),
    [
        (np.zeros((1, 4)), [0], r"boxes must have shape \(n, 2, ndim\)"),
        ([[0, 0, 9, 9]], [0], r"boxes must have shape \(n, 2, ndim\)"),
        ([[[0, 0], [9, 9]]], [[0]], r"labels must have shape \(1,\)"),
        ([[[0, 0], [9, 9]]], [True], "got bool numbers"),
        ([], [], "boxes is empty and has no number of axes; give ndim"),
    ],
)
def test_wrong_shapes_are_named(boxes, labels, says):
    with pytest.raises(ValueError, match=says):
        Instances.from_boxes(boxes, labels)


def test_an_empty_list_of_boxes_is_an_empty_set_once_its_axes_are_known(ndim):
    assert Instances.from_boxes([], [], ndim=ndim).boxes.shape == (0, 2, ndim)
    assert len(Instances.from_boxes([[[1] * ndim, [2] * ndim]], [0], ndim=ndim)) == 1
    with pytest.raises(ValueError, match=rf"\(n, 2, {ndim + 1}\)"):
        Instances.from_boxes([[[1] * ndim, [2] * ndim]], [0], ndim=ndim + 1)
