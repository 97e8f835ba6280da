"""Where the images of a cell come from: generated toy images, mosaics of crops, or a folder of the user's."""

import os
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt

from boxel.config import Choice
from boxel.datasets.cases import Dataset
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.mosaic import Mosaic, make_mosaic
from boxel.datasets.split import dataset_splits, hold_out
from boxel.datasets.toy import make_toy
from boxel.ranges import Rank
from boxel.types import Progress


class Source(Choice):
    """Data that a cell trains and tests on; equal sources are the same images."""

    @property
    def reads(self) -> Path | None:
        """The folder of images that it reads; None if it generates them all."""
        return None

    @abstractmethod
    def open(self, folder: Path, progress: Progress) -> Dataset:
        """The data set; what is generated is written into `folder`, where a second call finds it.

        Raises:
            ValueError: there is no such data set, or something is wrong with it.
        """


class ToyImages(Source, name="toy"):
    """Toy images of the papers, see `boxel.datasets.toy.make_toy`.

    Attributes:
        train_sizes: numbers of training images: fold k trains on the first `train_sizes[k]` images and has the same
            validation and test images as the others. The plan is made from all of them.
    """

    task: str
    preset: str = "paper"
    train_sizes: tuple[PositiveInt, ...] = Field(min_length=1)
    num_val: NonNegativeInt = 500
    num_test: NonNegativeInt = 1000
    ndim: Rank = 2
    size: PositiveInt | None = None
    seed: NonNegativeInt = 0

    def open(self, folder: Path, progress: Progress) -> Dataset:
        settings = {key: getattr(self, key) for key in type(self).model_fields if key != "train_sizes"}
        dataset = open_dataset(make_toy(folder, **settings, num_train=max(self.train_sizes), progress=progress))
        train = [case.id for case in dataset.train if case.id.startswith("train")]
        val = tuple(case.id for case in dataset.train if case.id.startswith("val"))
        folds = tuple({"train": tuple(train[:size]), "val": val} for size in self.train_sizes)
        return replace(dataset, splits=folds)


class DataFolder(Source, name="folder"):
    """A data set in any layout.

    Attributes:
        path: absolute path of the folder.
        format: its layout; recognised if empty.
        options: settings of the layout, each `"key=value"`.
    """

    path: str
    format: str = ""
    options: tuple[str, ...] = ()

    @property
    def reads(self) -> Path:
        return Path(self.path)

    def open(self, folder: Path, progress: Progress) -> Dataset:
        return open_dataset(Path(self.path), format=self.format, options=self.options)

    def or_options(self, *options: str) -> Self:
        """The folder with these options, unless it has its own."""
        return self if self.options else self.model_copy(update={"options": options})


class PatientSplit(Source, name="patient_split"):
    """A folder cut anew by patient: its own parts and folds are left aside.

    Attributes:
        folder: the data set.
        test: share of the patients that are tested on.
        val: share of the others that are validated on.
        seed: random seed of the parts.
    """

    folder: DataFolder
    test: float = Field(0.25, gt=0, lt=1)
    val: float = Field(0.1, gt=0, lt=1)
    seed: NonNegativeInt = 0

    @property
    def reads(self) -> Path:
        return self.folder.reads

    def open(self, folder: Path, progress: Progress) -> Dataset:
        dataset = self.folder.open(folder, progress)
        cases = tuple(replace(case, split="train") for case in dataset.cases)
        parts = {"test": hold_out(cases, self.test, self.seed)}
        others = [case for case in cases if case.id not in parts["test"]]
        parts["val"] = hold_out(others, self.val, self.seed)
        parts["train"] = {case.id for case in others} - parts["val"]
        split = {part: tuple(sorted(ids)) for part, ids in parts.items()}
        return replace(dataset, cases=cases, splits=(split,))


class ValidationPart(Source, name="validation_part"):
    """The validation cases of the first fold of `source` as test cases, to choose settings by.

    The test cases of `source` are no cases here. Part of its training cases are validated on instead.

    Attributes:
        val: share of the patients of the training part that are validated on.
        seed: random seed of that part.
    """

    source: Source
    val: float = Field(0.25, gt=0, lt=1)
    seed: NonNegativeInt = 0

    @property
    def reads(self) -> Path | None:
        return self.source.reads

    def open(self, folder: Path, progress: Progress) -> Dataset:
        dataset = self.source.open(folder, progress)
        fold = dataset_splits(dataset)[0]
        known = {*fold.train, *fold.val}
        cases = tuple(replace(case, split="train") for case in dataset.cases if case.id in known)
        val = hold_out([case for case in cases if case.id in fold.train], self.val, self.seed)
        train = tuple(name for name in fold.train if name not in val)
        return replace(dataset, cases=cases, splits=({"train": train, "val": tuple(sorted(val)), "test": fold.val},))


class MosaicOfCrops(Source, name="mosaic"):
    """Canvases composed of crops around one lesion each, see `boxel.datasets.formats.mosaic`.

    Attributes:
        path: absolute path of the folder of crops.
        format: its layout; recognised if empty.
        options: settings of that layout.
        canvases: in each of the four parts.
        patients: whose tissue a canvas holds; with one, a canvas belongs to one patient.
        lesions: most lesions of a canvas.
        control: "seam" hides the lesions.
        seed: random seed of parts and canvases.
        canvas: voxels of a canvas (plane, row, column).
        tiles: lesions and empty tiles of a canvas together, as far as they find a place.
    """

    path: str
    format: str = ""
    options: tuple[str, ...] = ()
    canvases: PositiveInt = 150
    patients: PositiveInt = 1
    lesions: PositiveInt = 4
    control: Literal["none", "seam"] = "none"
    seed: NonNegativeInt = 0
    canvas: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 160, 160)
    tiles: PositiveInt = 8

    @property
    def reads(self) -> Path:
        return Path(self.path)

    def open(self, folder: Path, progress: Progress) -> Dataset:
        settings = {key: getattr(self, key) for key in type(self).model_fields if key != "path"}
        return open_dataset(make_mosaic(folder, Mosaic(source=self.path, **settings), progress=progress))


def project_data(name: str) -> str:
    """The folder of a data set among the real images that the project is measured on, `BOXEL_DATA`."""
    return str(Path(os.environ.get("BOXEL_DATA", "../shared/data"), name).resolve())
