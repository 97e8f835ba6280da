"""Data sets that are cut out of others: windows of enlarged images, and quarters of volumes.

Both are written once, in the native layout, with their parts. An interrupted call continues when it is repeated.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from boxel.datasets.cases import Dataset, LoadedCase, read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import annotation_file, write_case, write_dataset, write_splits
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.split import dataset_splits
from boxel.experiments.sources import DataFolder, PatientSplit, Source
from boxel.io import resample
from boxel.types import Geometry, Image, Instances, Progress, Split

__all__ = ["EnlargedObjects", "Quarters", "Window"]

LEAST_SEEN = 0.5  # of the voxels of an object, for it to count in a window; less of it is ignored
SIZES = ("small", "medium", "large")


class EnlargedObjects(Source, name="enlarged"):
    """A window of each image of a data set in 2D, enlarged by interpolation, with objects in three classes by size.

    The window lies at random around one of the objects. Classes have equal numbers of the training objects. Images
    have one channel, the mean of all. Parts are those of the originals.

    Attributes:
        images: the data set.
        factor: new pixels per pixel and axis.
        size: pixels of a window per axis.
        seed: random seed of the windows.
    """

    images: PatientSplit
    factor: PositiveInt = 6
    size: PositiveInt = 512
    seed: NonNegativeInt = 0

    @property
    def reads(self) -> Path:
        return self.images.reads

    def open(self, folder: Path, progress: Progress) -> Dataset:
        if not (folder / "dataset.json").exists():
            self._write(folder, progress)
        return open_dataset(folder, format="native")

    def _write(self, folder: Path, progress: Progress) -> None:
        originals = self.images.open(folder, progress)
        split = dataset_splits(originals)[0]
        areas = np.concatenate([_voxels(read_case(originals[name], originals)) for name in split.train])
        limits = np.quantile(areas, np.arange(1, len(SIZES)) / len(SIZES))
        cases = sorted(originals.cases, key=lambda case: case.id)
        for number, case in enumerate(cases):
            progress("enlarge", number + 1, len(cases))
            if not annotation_file(folder, case.id, "train").exists():
                loaded = read_case(case, originals)
                sizes = np.searchsorted(limits, _voxels(loaded), side="right").tolist()
                labels = dict(zip(loaded.instances.ids.tolist(), sizes, strict=True))
                window = self._window(loaded, np.random.default_rng([self.seed, number]))
                window.write(folder, case.id, labels)
        groups = {case.id: case.group or case.id for case in cases}
        _finish(folder, "enlarged", SIZES, split, groups, ndim=2)

    def _window(self, case: LoadedCase, rng: np.random.Generator) -> "Window":
        shape = np.multiply(case.image.geometry.shape, self.factor)
        mean = Image(case.image.array.mean(axis=0, keepdims=True), case.image.geometry)
        image = np.rint(resample(mean, shape.tolist()).array)
        label_map = np.kron(_masks(case), np.ones((self.factor, self.factor), np.int32))
        lower, upper = case.instances.boxes[rng.integers(len(case.instances))] * self.factor
        ends = np.stack([np.maximum(upper - self.size, 0), np.minimum(lower, shape - self.size)])
        first, last = np.sort(ends, axis=0).astype(int)
        return Window.cut(image, label_map, rng.integers(first, last + 1), np.full(2, self.size))


class Quarters(Source, name="quarters"):
    """Volumes cut into four quarters by row and column: of each, two to train on, one to validate and one to test on.

    Parts share no voxel, but they share volumes, so that scores are higher than on volumes of other origin: for data
    sets with few volumes. An object at a cut is in two parts, with different voxels.

    Attributes:
        volumes: data sets in 3D with one channel and the same classes.
        seed: random seed that deals the quarters of each volume.
    """

    volumes: tuple[DataFolder, ...] = Field(min_length=1)
    seed: NonNegativeInt = 0

    @property
    def reads(self) -> Path:
        return self.volumes[0].reads

    def open(self, folder: Path, progress: Progress) -> Dataset:
        if not (folder / "dataset.json").exists():
            self._write(folder, progress)
        return open_dataset(folder, format="native")

    def _write(self, folder: Path, progress: Progress) -> None:
        rng = np.random.default_rng(self.seed)
        parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        opened = [source.open(folder, progress) for source in self.volumes]
        for dataset in opened:
            for case in dataset.cases:
                loaded = read_case(case, dataset)
                labels = dict(zip(loaded.instances.ids.tolist(), loaded.instances.labels.tolist(), strict=True))
                dealt = rng.permutation(["train", "train", "val", "test"]).tolist()
                for number, (part, window) in enumerate(zip(dealt, _quarters(loaded), strict=True)):
                    name = f"{case.id}_{number}"
                    parts[part].append(name)
                    if not annotation_file(folder, name, "train").exists():
                        window.write(folder, name, labels)
        split = Split(**{part: tuple(names) for part, names in parts.items()})
        _finish(folder, "quarters", opened[0].classes, split, {}, ndim=3)


class Window(NamedTuple):
    """A rectangle of an image.

    Attributes:
        image: `(c, *s)`.
        label_map: `(*s)` of the objects that are seen at least by half.
        hidden: the tight boxes `(n, 2, d)` of the others, of which less is seen.
        hidden_ids: their ids `(n,)`.
    """

    image: np.ndarray
    label_map: np.ndarray
    hidden: np.ndarray
    hidden_ids: np.ndarray

    @classmethod
    def cut(cls, image: np.ndarray, label_map: np.ndarray, lower: np.ndarray, size: np.ndarray) -> "Window":
        """The rectangle of `image (c, *s)` and `label_map (*s)` of `size (d,)` from `lower (d,)` on."""
        here = tuple(slice(a, a + n) for a, n in zip(lower.tolist(), size.tolist(), strict=True))
        own = label_map[here]
        seen, whole = np.bincount(own.ravel(), minlength=label_map.max() + 1), np.bincount(label_map.ravel())
        ids = np.flatnonzero((seen > 0) & (seen < LEAST_SEEN * whole))
        ids = ids[ids > 0]
        few = np.isin(own, ids)
        hidden = tight_boxes(own * few)[1] if len(ids) else np.zeros((0, 2, own.ndim), np.float32)
        return cls(image[:, *here], own * ~few, hidden, ids)

    def write(self, folder: Path, name: str, labels: Mapping[int, int]) -> None:
        """Write it as a case; `labels` are the classes of all objects by id."""
        present = np.unique(self.label_map[self.label_map > 0]).tolist()
        kinds = np.array([labels[number] for number in self.hidden_ids.tolist()], np.int64)
        ignored = Instances(self.hidden, kinds, self.hidden_ids, np.zeros(len(kinds), bool))
        image = Image(self.image, Geometry.plain(self.label_map.shape))
        own = {number: labels[number] for number in present}
        write_case(folder, name, image, self.label_map, own, suffix=".mha", ignored=ignored)


def _quarters(case: LoadedCase) -> Iterator[Window]:
    depth, *plane = case.image.geometry.shape
    middle = [n // 2 for n in plane]
    for row in (0, 1):
        for column in (0, 1):
            lower = np.array([0, row * middle[0], column * middle[1]])
            upper = [depth, *((plane[k] if side else middle[k]) for k, side in enumerate((row, column)))]
            yield Window.cut(case.image.array, _masks(case), lower, np.array(upper) - lower)


def _voxels(case: LoadedCase) -> np.ndarray:
    """The number of voxels `(n,)` of each object."""
    return np.bincount(_masks(case).ravel())[case.instances.ids]


def _masks(case: LoadedCase) -> np.ndarray:
    if case.label_map is None or not case.instances.has_mask.all():
        raise ValueError("only data sets whose objects all have masks can be cut up; choose another one")
    return case.label_map


def _finish(
    folder: Path, name: str, classes: tuple[str, ...], split: Split, groups: Mapping[str, str], *, ndim: int
) -> None:
    write_splits(folder, [split.to_dict()])
    write_dataset(folder, name, ndim, classes, ["grey"], groups)
