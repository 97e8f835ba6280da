"""Models without a `Task`, plans, stores or Boxel's training: from numbers, boxes and tensors."""

import doctest
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import boxel.models
from boxel import Batch, Instances
from boxel.models import (
    DenseConfig,
    FPNConfig,
    Model,
    ModelConfig,
    PyramidGrid,
    ResNetConfig,
    RetinaNetConfig,
    RetinaUNet,
    RetinaUNetConfig,
)
from boxel.models.grid import numbers_of
from boxel.recipes import Experiment
from boxel.testing import check_model
from tests.unit.builders import ALWAYS_SEGMENT, make_batch, make_task, tiny

EXAMPLES = Path(__file__).parents[3] / "examples"
METHODS = [Experiment.override, Instances.from_boxes, ModelConfig.of_parts, PyramidGrid.default]
PUBLIC = [*(getattr(boxel.models, name) for name in boxel.models.__all__), Batch, check_model, *METHODS]
SEGMENTING = [name for name, kind in ModelConfig.registry.items() if kind.segments]
CLASSES = {name: type(tiny(name).build(make_task(2))) for name in ModelConfig.registry}


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__qualname__)
def test_public_names_have_docstrings_whose_examples_run(public):
    assert public.__doc__
    for test in doctest.DocTestFinder(recurse=False).find(public, public.__name__, globs={"boxel": boxel}):
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
def test_a_model_needs_no_more_than_three_numbers(ndim, name):
    model = CLASSES[name](ndim=ndim, in_channels=2, num_classes=3, config=tiny(name))
    objects = [Instances.from_boxes([[[8] * ndim, [20] * ndim]], [2]), Instances.from_boxes(np.zeros((0, 2, ndim)), [])]
    batch = Batch(torch.rand(2, 2, *(32,) * ndim), instances=objects)
    loss = sum(model(batch.images, batch).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert [len(detections.boxes.shape) for detections in model.eval()(batch.images)] == [3, 3]


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
def test_a_task_builds_the_model_of_its_numbers(ndim, name):
    task, config = make_task(ndim, context=1), tiny(name)
    torch.manual_seed(0)
    of_task = config.build(task).state_dict()
    torch.manual_seed(0)
    grid = PyramidGrid(task.strides, task.levels, task.anchors)
    of_numbers = CLASSES[name](ndim, 3, 2, config=config, grid=grid).state_dict()
    assert of_task.keys() == of_numbers.keys()
    assert all(torch.equal(tensor, of_numbers[key]) for key, tensor in of_task.items())


def test_an_import_of_boxel_is_enough():
    code = "import boxel; boxel.testing.check_model; boxel.models.RetinaNet(ndim=3, in_channels=1, num_classes=2)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


def test_the_default_grid_fits_both_ranks_and_follows_what_is_given(ndim):
    grid = PyramidGrid.default(ndim)
    assert grid.level_strides == tuple((2**level,) * ndim for level in (2, 3, 4, 5))
    assert grid.anchors[0] == tuple((pytest.approx(size, abs=1e-3),) * ndim for size in (16, 20.159, 25.398))
    uneven = PyramidGrid.default(ndim, strides=[(1, *(2,) * (ndim - 1))])
    assert uneven.levels == (1,)
    assert uneven.anchors[0][0] == (4.0, *(8.0,) * (ndim - 1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"levels": (2, 7)}, "levels must lie in 1 to 5"),
        ({"levels": ()}, "levels must lie in 1 to 5"),
        ({"levels": (2, 3, 4)}, "anchors are given for 4 levels, but 3 detect"),
        ({"anchors": (((4.0, 4.0),), ((8.0, 8.0),) * 2) * 2}, "same number of anchors"),
        ({"anchors": (((4.0, 4.0, 4.0),),) * 4}, r"one number per axis, got rows of \[2, 3\]"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(PyramidGrid.default(2), **change)


def test_boxes_make_instances_from_lists_arrays_and_tensors(ndim):
    boxes = [[[1] * ndim, [4] * ndim], [[2] * ndim, [9] * ndim]]
    for form in (boxes, np.asarray(boxes), torch.tensor(boxes)):
        objects = Instances.from_boxes(form, [1, 0])
        assert objects.boxes.tolist() == boxes
        assert objects.boxes.dtype == torch.float32
        assert (objects.labels.tolist(), objects.ids.tolist()) == ([1, 0], [1, 2])
        assert not objects.has_mask.any()
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\)"):
        Instances.from_boxes(boxes, [1])
    with pytest.raises(ValueError, match=r"boxes must have shape \(n, 2, ndim\)"):
        Instances.from_boxes(np.zeros((1, 4)), [0])


def test_a_batch_whose_objects_have_masks_needs_label_maps(ndim):
    batch = make_batch(make_task(ndim), 1)
    with pytest.raises(ValueError, match="needs label_maps"):
        replace(batch, label_maps=None)


@pytest.mark.parametrize("name", sorted(ModelConfig.registry))
def test_masks_that_cannot_be_given_are_an_error(ndim, name):
    config, batch = tiny(name), make_batch(make_task(ndim), 1)
    model = config.build(make_task(ndim)).eval()
    outputs = model.infer(batch.images)
    if name in ALWAYS_SEGMENT:
        assert model.detect(outputs, masks=True)[0].masks is not None
    elif config.segments:
        with pytest.raises(ValueError, match="infer with segmentation=True"):
            model.detect(outputs, masks=True)
        with pytest.raises(ValueError, match="infer with segmentation=True"):
            model.segment(outputs)
    elif not config.gives_masks:
        with pytest.raises(ValueError, match="predicts boxes only"):
            model.detect(outputs, masks=True)


@pytest.mark.parametrize("name", sorted(SEGMENTING))
def test_the_segmentation_names_its_classes(name):
    config = tiny(name)
    for segment, expected in {"foreground": ("foreground",), "classes": ("cyst", "tumour")}.items():
        if "segment" in type(config).model_fields:
            config = config.model_copy(update={"segment": segment})
        elif segment == "foreground":
            continue
        assert config.segmentation_classes(("cyst", "tumour")) == expected
    assert config.segmentation_classes(("tumour",)) == ("tumour",)
    assert RetinaNetConfig().segmentation_classes(("tumour",)) == ()


def test_the_segmentation_is_the_softmax_of_the_logits(ndim):
    model = RetinaUNet(ndim, 1, 2, config=tiny("retina_unet").model_copy(update={"segment": "classes"}))
    outputs = model.infer(torch.rand(1, 1, *(32,) * ndim), segmentation=True)
    logits = outputs.segmentation.exp()
    torch.testing.assert_close(model.segment(outputs), logits / logits.sum(1, keepdim=True))


class WrongConfig(RetinaUNetConfig):
    """A model with one defect, see `Wrong`."""

    defect: str = ""

    def build(self, task):
        return Wrong(self, RetinaUNet(**numbers_of(task), config=RetinaUNetConfig(**NARROW)))


class Wrong(Model):
    def __init__(self, config, model):
        super().__init__()
        self.defect, self.model = config.defect, model
        if self.defect == "idle":
            self.idle = torch.nn.Parameter(torch.zeros(1))
        self.noise = torch.rand(1)

    def infer(self, images, *, segmentation=False, phase="all"):
        outputs = self.model.infer(images, segmentation=segmentation)
        return outputs._replace(segmentation=None) if self.defect == "mode" and not self.training else outputs

    def loss(self, outputs, batch):
        terms = self.model.loss(outputs, batch)
        if self.defect == "empty" and not len(batch.instances[0]):
            terms["box"] = terms["box"] / 0
        return terms

    def detect(self, outputs, *, masks=False):
        detections = self.model.detect(outputs, masks=masks)
        change = {
            "order": lambda one: one[torch.arange(len(one)).flip(0)],
            "outside": lambda one: replace(one, boxes=one.boxes + 1),
            "unsaved": lambda one: replace(one, boxes=one.boxes * self.noise.clamp(0.1, 0.9)),
            "no mask": lambda one: replace(one, masks=None),
        }.get(self.defect, lambda one: one)
        return [change(one) for one in detections]

    def segment(self, outputs):
        probabilities = self.model.segment(outputs)
        return probabilities[:, 1:] if self.defect == "background" else probabilities


NARROW = {
    "backbone": ResNetConfig(depth=10, start_filters=4, norm="group"),
    "neck": FPNConfig(filters=8),
    "dense": DenseConfig(filters=8, min_score=0.0),
}
DEFECTS = {
    "idle": r"no loss term depends on the parameters \['idle'\]",
    "mode": r"the loss has the terms .* after train\(\), .* after eval",
    "empty": r"\['box'\] are not finite on images with no object",
    "order": "descending score",
    "outside": "outside the image",
    "unsaved": "differ after saving",
    "no mask": "there are no masks",
    "background": "segment gives the shape",
}


def test_the_public_check_passes_a_model_that_wraps_another(ndim):
    check_model(WrongConfig(), [ndim])


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_public_check_names_what_is_wrong(defect):
    with pytest.raises(AssertionError, match=DEFECTS[defect]):
        check_model(WrongConfig(defect=defect), [2])


def test_the_example_of_a_plain_loop_runs(capsys):
    """`examples/own_loop.py`, whose loss falls."""
    names = runpy.run_path(str(EXAMPLES / "own_loop.py"))
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert len(names["detections"].boxes)
