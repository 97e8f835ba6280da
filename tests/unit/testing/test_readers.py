"""`boxel.testing.check_reader`: every layout of Boxel passes, and each broken promise is named."""

import doctest
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from boxel.datasets.annotations import Annotator, Opener, Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats import Format, formats, open_dataset
from boxel.datasets.formats.options import ReaderOptions
from boxel.io import write_image
from boxel.testing import check_reader, readers
from boxel.types import Geometry, Image, Instances

EXAMPLES = Path(__file__).parents[3] / "docs" / "example_layouts.py"


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """One folder per layout, by the name of the layout that recognises it."""
    pytest.importorskip("highdicom")
    folder = tmp_path_factory.mktemp("examples")
    subprocess.run([sys.executable, "-W", "error", EXAMPLES, folder], check=True)
    own = {}
    for example in sorted(folder.iterdir()):
        own.setdefault(open_dataset(example).format, []).append(example)
    return own


@pytest.mark.parametrize("name", formats())
def test_every_layout_keeps_the_promises_of_a_reader(examples, name):
    assert name in examples, f"write an example of {name} in docs/example_layouts.py"
    for folder in examples[name]:
        check_reader(name, folder)


@pytest.mark.parametrize("name", formats())
def test_every_layout_says_what_makes_it_up(name):
    assert formats()[name].description


class Unpicklable(Annotator):
    def __init__(self):
        self.shape = lambda: Shape(0, ((1.0, 1.0), (3.0, 3.0)))

    def read(self, geometry):
        return Shapes((self.shape(),)).read(geometry)


@dataclass(frozen=True)
class LooseBoxes(Annotator):
    """A mask whose box is one voxel too large."""

    ndim: int

    def read(self, geometry):
        label_map = np.zeros(geometry.shape, np.int32)
        label_map[(slice(2, 4),) * self.ndim] = 1
        boxes = np.array([[[1.0] * self.ndim, [4.0] * self.ndim]], np.float32)
        return label_map, Instances(boxes, np.array([0]), np.array([1]), np.array([True]))


@dataclass(frozen=True)
class FarObject(Annotator):
    ndim: int

    def read(self, geometry):
        boxes = np.array([[[1.0] * self.ndim, [400.0] * self.ndim]], np.float32)
        return None, Instances(boxes, np.array([0]), np.array([1]), np.array([False]))


@dataclass(frozen=True)
class Missing(Opener):
    def read(self, path):
        raise KeyError("no such thing")


@pytest.fixture
def sound(tmp_path, ndim):
    """A reader of one image with one object, and its folder."""
    shape = (8, 9, 10)[:ndim]
    write_image(tmp_path / "a.nii.gz", Image(np.zeros((1, *shape), np.float32), Geometry.plain(shape)))
    annotate = Shapes((Shape(0, ((1.0,) * ndim, (3.0,) * ndim)),))
    case = Case("a", (tmp_path / "a.nii.gz",), annotate=annotate)
    dataset = Dataset(tmp_path, "mine", ndim, ("x",), ("MR",), (case,))
    return Format("mine", lambda path: (path / "a.nii.gz").exists(), lambda path, report: dataset), dataset


def test_a_sound_reader_of_ones_own_passes_unregistered(sound):
    check_reader(sound[0], sound[1].root)
    assert "mine" not in formats()


BROKEN = {
    "not recognised": (lambda f, d: replace(f, detect=lambda path: False), "does not recognise the folder"),
    "recognises all": (lambda f, d: replace(f, detect=lambda path: True), "recognises an empty folder"),
    "any option": (lambda f, d: replace(f, options=AnyOption, reader=lambda *_: d), "unknown option is accepted"),
    "no error": (lambda f, d: replace(f, reader=lambda path, report: d.cases[3]), "empty folder raises IndexError"),
    "random": (lambda f, d: replace(f, reader=random_reader(d)), "different data sets"),
    "address": (lambda f, d: with_case(f, d, annotate=Unpicklable()), "after pickling"),
    "twice": (lambda f, d: of(f, replace(d, cases=d.cases * 2)), "appears 2 times"),
    "no cases": (lambda f, d: of(f, replace(d, cases=())), "has no cases"),
    "path as name": (lambda f, d: with_case(f, d, id="x/a"), "cannot be a file name"),
    "classes": (lambda f, d: of(f, replace(d, classes=())), "name at least one"),
    "class": (lambda f, d: with_case(f, d, annotate=Shapes((Shape(4, ((1.0,) * d.ndim, (3.0,) * d.ndim)),))), "class"),
    "loose": (lambda f, d: with_case(f, d, annotate=LooseBoxes(d.ndim)), "not tight"),
    "outside": (lambda f, d: with_case(f, d, annotate=FarObject(d.ndim)), "object 1"),
    "image": (lambda f, d: with_case(f, d, opener=Missing()), "KeyError"),
    "no image": (lambda f, d: with_case(f, d, channels=(), annotation=d.root), "has no image"),
    "split": (lambda f, d: with_case(f, d, split="val"), "neither"),
    "fold": (lambda f, d: of(f, replace(d, splits=({"train": ("a",), "val": ("b",)},))), "fold 0"),
}


class AnyOption(ReaderOptions):
    @classmethod
    def parse(cls, assignments):
        return cls()


def of(known, dataset):
    return replace(known, reader=lambda path, report: dataset)


def with_case(known, dataset, **changes):
    return of(known, replace(dataset, cases=(replace(dataset.cases[0], **changes),)))


def random_reader(dataset):
    counter = iter(range(100))
    return lambda path, report: replace(dataset, cases=(replace(dataset.cases[0], group=str(next(counter))),))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named(sound, name):
    change, message = BROKEN[name]
    known, dataset = sound
    with pytest.raises(AssertionError, match=message):
        check_reader(change(known, dataset), dataset.root)


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(readers, raise_on_error=True).attempted > 0
