"""Cases: what the reader of a layout returns, and how a case is loaded and validated."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import Annotator, Opener
from boxel.datasets.declared import fits
from boxel.datasets.instances import clipped, repeated
from boxel.datasets.measured import MeasuredMap, measure
from boxel.datasets.names import NAMES_OF_CASES, NO_FILE_NAME, can_name_files
from boxel.datasets.problems import InputError, Report, Severity, raise_it, some
from boxel.io import open_image, read_image
from boxel.io.channels import as_declared, check_same_grid, in_memory, open_channels, read_grids
from boxel.slabs import Voxels
from boxel.types import Image, Instances
from boxel.wording import counted

__all__ = [
    "Annotator", "Case", "Dataset", "InputError", "LoadedCase", "Opener", "Report", "Severity", "inspect", "raise_it",
    "read_case", "read_case_image",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One examination, not loaded yet.

    Attributes:
        channels: the image file (or DICOM folder) of each channel.
        label_map: image of instance ids, if there is one.
        mask_labels: the class of each id in the label map.
        box_instances: objects without a mask, given by their boxes.
        annotate: reads further objects, which are fully known only once the image is open.
        attributes: further numbers about objects by their ids, such as a diameter in mm; stored but not used.
        opener: reads the channels if `boxel.io.read_image` cannot.
        group: cases of one group (patient) stay together in a split; an empty group is a group of its own.
        split: "train" cases are divided into folds, "test" cases are held out.
        annotation: the file to name if the annotation is wrong.
        weak: the label map shows boxes, not the shapes of the objects.
        declared: the shape `(*s)` of the image that the annotation was made on; None where it does not say.
    """

    id: str
    channels: tuple[Path, ...]
    label_map: Path | None = None
    mask_labels: Mapping[int, int] = field(default_factory=dict)
    box_instances: Instances | None = None
    group: str = ""
    split: str = "train"
    annotation: Path | None = None
    annotate: Annotator | None = None
    opener: Opener | None = None
    attributes: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    weak: bool = False
    declared: tuple[int | None, ...] | None = None

    @property
    def file(self) -> Path:
        """The file to name if the annotation is wrong."""
        files = self.annotate.files if self.annotate else ()
        return next(path for path in (self.annotation, self.label_map, *files, *self.channels) if path)

    @property
    def labels(self) -> list[int]:
        """The class of every object that is known without opening a file."""
        return [
            *(self.annotate.labels if self.annotate else ()),
            *self.mask_labels.values(),
            *(self.box_instances.labels.tolist() if self.box_instances else []),
        ]


@dataclass(frozen=True)
class Dataset:
    """Cases and what they have in common.

    Attributes:
        splits: folds that the data set prescribes, each `{"train": ids, "val": ids, "test": ids}`; if None,
            `boxel.datasets.split` makes them.
        format: name of the layout that it was read from.
        unlabelled: ids of images without annotation; they are not cases.
    """

    root: Path
    name: str
    ndim: int
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    splits: tuple[Mapping[str, tuple[str, ...]], ...] | None = None
    format: str = ""
    unlabelled: tuple[str, ...] = ()

    @property
    def train(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.split == "train")

    @property
    def test(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.split == "test")

    def __getitem__(self, case_id: str) -> Case:
        for case in self.cases:
            if case.id == case_id:
                return case
        raise KeyError(f"{self.root}: no case {case_id!r}")


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Attributes:
        image: `(c, *s)` float32, finite.
        instances: its objects, in image voxels.
        label_map: `(*s)` int32, the ids of the objects with a mask.
        ignored: ignored objects, in image voxels: excluded from training and scoring.
        ignores_regions: whether these are regions that hold any number of objects (crowds), not single objects.
    """

    image: Image
    instances: Instances
    label_map: np.ndarray | None
    ignored: Instances | None = None
    ignores_regions: bool = False


def inspect(dataset: Dataset) -> Iterator[InputError]:
    """Problems of the cases that show without opening an image."""
    if not dataset.cases:
        yield InputError(dataset.root, "no cases", "give the folder of the data set, or name its layout with --format")
    seen: dict[str, Case] = {}
    for case in dataset.cases:
        if case.id in seen:
            yield InputError(
                case.channels[0],
                f"duplicate case {case.id!r}, of {seen[case.id].file} and {case.file}",
                "case names are unique: rename one, or remove one of these annotations",
                case.id,
            )
        seen.setdefault(case.id, case)
        yield from _inspect_case(case, dataset)
    for fold, split in enumerate(dataset.splits or ()):
        counts = Counter(case_id for part in split.values() for case_id in part)
        wrong = [case_id for case_id, count in counts.items() if count > 1 or case_id not in seen]
        if wrong:
            yield InputError(
                dataset.root / "splits.json",
                f"fold {fold} names cases that do not exist or are in two parts: {some(wrong)}",
                "every id must be a case and belong to one part",
            )


def _inspect_case(case: Case, dataset: Dataset) -> Iterator[InputError]:
    if not can_name_files(case.id):
        yield InputError(case.file, f"case {case.id!r:.200}: {NO_FILE_NAME}", NAMES_OF_CASES, case.id)
    for label in sorted(set(case.labels) - set(range(len(dataset.classes)))):
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(dataset.classes))
        fix = f"use one of {known}, or add the class to the data set's labels"
        yield InputError(case.file, f"unknown class id {label}", fix, case.id)
    boxes = case.box_instances or Instances.empty(dataset.ndim)
    drawn = getattr(case.annotate, "ids", ())
    counts = Counter([*case.mask_labels, *boxes.ids.tolist(), *drawn])
    for number in (number for number, count in counts.items() if count > 1):
        problem = f"two objects have the number {number}"
        yield InputError(case.file, problem, "give every object its own number", case.id)
    if case.mask_labels and case.label_map is None:
        yield InputError(
            case.file,
            f"{counted(len(case.mask_labels), 'object has a mask', 'objects have masks')} but no label map exists",
            "add the label map, or describe the objects as boxes",
            case.id,
        )


def read_case(
    case: Case, dataset: Dataset, *, repair: bool = False, pixels: bool = True, measured: MeasuredMap | None = None
) -> LoadedCase:
    """Load and validate the image and the objects of a case; boxes of masks are tight (half-open voxels).

    Args:
        pixels: without them, the image may have no channel `(0, *s)`: only its header is read if that says enough.
        measured: what is known about its label map, which is then not read.
        repair: leave out objects without voxels or extent and repeated ones, and clip boxes at the border of the image.

    Raises:
        ValueError: names the file, the problem and a suggested fix.
    """
    for problem in _inspect_case(case, dataset):
        raise problem
    image = (None if pixels else _without_pixels(case, dataset)) or read_case_image(case, dataset)
    label_map = None
    instances = [] if case.box_instances is None else [case.box_instances]
    if case.label_map is not None:
        own, array = (measured, None) if measured else measure(case.label_map)
        check_same_grid(case.label_map, own.geometry, case.channels[0], image.geometry)
        boxed = _instances_of(own, case, repair)
        if case.weak:
            boxed = replace(boxed, has_mask=np.zeros(len(boxed), bool))
        else:
            label_map = array
        instances.insert(0, boxed)
    ignored = Instances.empty(dataset.ndim)
    if case.annotate is not None:
        try:
            drawn, others = case.annotate.read(image.geometry)
            ignored = case.annotate.ignored(image.geometry)
        except ValueError as error:
            if str(case.file) in str(error) or any(str(file) in str(error) for file in case.annotate.files):
                raise
            what, _, fix = str(error).rpartition("; ")
            raise InputError(case.file, what or fix, fix if what else "correct it", case.id) from None
        label_map = drawn if label_map is None else label_map
        instances.append(others)
    every = Instances.concatenate(instances or [ignored])
    if repair:
        every = clipped(every, image.geometry.shape)
        every = every[~repeated(every)]
    inside = _inside(every, image, case)
    regions = case.annotate is not None and case.annotate.ignores_regions
    return LoadedCase(image, inside, label_map, ignored, regions)


def _inside(instances: Instances, image: Image, case: Case) -> Instances:
    """The instances, after checking that every box has an extent and lies in the image."""
    shape, (lower, upper) = image.geometry.shape, instances.boxes.swapaxes(0, 1)
    for row in np.flatnonzero(~((lower >= 0) & (lower < upper) & (upper <= shape)).all(axis=1))[:1]:
        box = f"box {lower[row].tolist()} to {upper[row].tolist()} of object {instances.ids[row]}"
        problem = f"{box} is empty or outside the image {shape}"
        fix = "give lower < upper, both inside the image, in voxels and array order"
        raise InputError(case.file, problem, fix, case.id)
    return instances


def read_case_image(case: Case, dataset: Dataset) -> Image:
    """Read the channels of a case into one float32 image; raises as `open_case_image`."""
    return in_memory(open_case_image(case, dataset), np.float32)


def open_case_image(case: Case, dataset: Dataset) -> Image[Voxels]:
    """The image of a case as it is stored, see `boxel.io.channels.open_channels`.

    Raises:
        ValueError: names the file, the problem and a suggested fix.
    """
    if not case.channels:
        raise InputError(case.file, "this case has an annotation but no image", "add the image", case.id)
    image = open_channels(case.channels, case.opener.read if case.opener else open_image)
    if not fits(case.declared, image.geometry.shape) and not case.opener:  # annotated as stored, not as shown
        image = open_channels(case.channels, partial(read_image, upright=False))
    first, shape = case.channels[0], image.geometry.shape
    if not fits(case.declared, shape):
        declared = str(case.declared).replace("None", "?")
        problem = f"the annotation is made for an image of shape {declared}, but {first.name} has {shape}"
        raise InputError(case.file, problem, "annotate this image, or use the one that was annotated", case.id)
    if len(shape) != dataset.ndim:
        problem = f"has {len(shape)} axes {shape} but the data set declares {dataset.ndim}"
        raise InputError(first, problem, "correct the declaration (dim) or the file", case.id)
    image = as_declared(image, dataset.channels)
    if len(image.array) != len(dataset.channels):
        problem = f"{len(image.array)} channels but the data set declares {len(dataset.channels)}"
        raise InputError(first, problem, "declare every channel (modalities), or save a grey image", case.id)
    return image


def _without_pixels(case: Case, dataset: Dataset) -> Image | None:
    """The image without its channels; None if headers do not say enough, or something other than what is declared."""
    number, grid = (0, None) if case.opener or not case.channels else read_grids(case.channels)
    if grid is None or (number, len(grid.shape)) != (len(dataset.channels), dataset.ndim):
        return None
    return Image(np.zeros((0, *grid.shape), np.float32), grid) if fits(case.declared, grid.shape) else None


def _instances_of(own: MeasuredMap, case: Case, repair: bool) -> Instances:
    numbers = own.ids.tolist()
    _check_ids(numbers, case, repair)
    labels = np.array([case.mask_labels[i] for i in numbers], np.int64)
    return Instances(own.boxes, labels, own.ids, np.ones(len(numbers), bool))


def _check_ids(ids: Iterable[int], case: Case, repair: bool) -> None:
    present, declared = set(ids), set(case.mask_labels)
    name = case.label_map.name if case.label_map else "the label map"
    if present - declared:
        raise InputError(
            case.file,
            f"instance ids {some(present - declared)} of {name} have no class",
            'name the class of each, such as "instances": {"1": 0}, or set their voxels to 0',
            case.id,
        )
    if declared - present and not repair:
        problem = f"objects {some(declared - present)} have a class but no voxels in {name}"
        raise InputError(case.file, problem, "remove them from the list, or add their masks", case.id)
