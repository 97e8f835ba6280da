"""Cases: what a reader of any layout yields, and how one of them is loaded and validated."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import Annotator, Opener
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.problems import InputError, Report, Severity, raise_it, some
from boxel.io import read_image, read_label_map
from boxel.io.channels import check_same_grid, read_channels
from boxel.types import Image, Instances

__all__ = [
    "Annotator",
    "Case",
    "Dataset",
    "InputError",
    "LoadedCase",
    "Opener",
    "Report",
    "Severity",
    "can_name_files",
    "inspect",
    "raise_it",
    "read_case",
    "read_case_image",
]


@dataclass(frozen=True)
class Case:
    """One examination, not loaded yet.

    Attributes:
        channels: the image of each channel.
        label_map: image of instance ids, where there is one.
        mask_labels: the class of each id in the label map.
        box_instances: objects that are known by their boxes alone.
        annotate: finds further objects, which are known in full only when the image is open.
        attributes: further numbers about objects by their ids, such as a diameter in mm; kept, not used.
        opener: opens the channels, where `boxel.io.read_image` would not do.
        group: cases of one group (patient) are never split; each case its own where empty.
        split: "train" cases are split into folds, "test" cases are kept apart.
        annotation: the file to name when the annotation is wrong.
        weak: the label map shows boxes, not the shapes of the objects.
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

    @property
    def file(self) -> Path:
        """The file that says what is in the image."""
        files = self.annotate.files if self.annotate else ()
        return next(path for path in (self.annotation, self.label_map, *files, *self.channels) if path)

    @property
    def labels(self) -> list[int]:
        """The class of every object, as far as it is known without loading anything."""
        return [
            *(self.annotate.labels if self.annotate else ()),
            *self.mask_labels.values(),
            *(self.box_instances.labels.tolist() if self.box_instances else []),
        ]


@dataclass(frozen=True)
class Dataset:
    """Cases and what they have in common.

    Attributes:
        splits: folds that the data set prescribes, each `{"train": ids, "val": ids, "test": ids}`; None
            leaves the choice to `boxel.datasets.split`.
        format: name of the layout it was read from.
        unlabelled: ids of images that lie there without annotation, which are no cases.
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
        ignored: what neither counts nor harms, in image voxels; no objects to train on.
        ignores_regions: these are regions with any number of objects (crowds), not single objects.
    """

    image: Image
    instances: Instances
    label_map: np.ndarray | None
    ignored: Instances | None = None
    ignores_regions: bool = False


def can_name_files(case_id: str) -> bool:
    """Whether files can be named after a case: no folder in its name, no leading dot."""
    return Path(case_id).name == case_id and not case_id.startswith(".")


def inspect(dataset: Dataset) -> Iterator[InputError]:
    """What is wrong with the cases as far as it shows without opening an image."""
    if not dataset.cases:
        yield InputError(dataset.root, "no cases", "give the folder of the data set, or name its layout with --format")
    seen: set[str] = set()
    for case in dataset.cases:
        if case.id in seen:
            yield InputError(
                case.channels[0],
                f"duplicate case {case.id!r}",
                "case names are unique: rename or remove one",
                case.id,
            )
        seen.add(case.id)
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(dataset.classes))
        for label in sorted(set(case.labels) - set(range(len(dataset.classes)))):
            yield InputError(
                case.file,
                f"unknown class id {label}",
                f"use one of {known}, or add the class to the data set's labels",
                case.id,
            )
        boxes = case.box_instances or Instances.empty(dataset.ndim)
        drawn = getattr(case.annotate, "ids", ())
        counts = Counter([*case.mask_labels, *boxes.ids.tolist(), *drawn])
        for number in (number for number, count in counts.items() if count > 1):
            yield InputError(case.file, f"object {number} is there twice", "give every object its own number", case.id)
        if case.mask_labels and case.label_map is None:
            yield InputError(
                case.file,
                f"{len(case.mask_labels)} objects with masks but no label map",
                "add the label map, or describe the objects as boxes",
                case.id,
            )
    for fold, split in enumerate(dataset.splits or ()):
        counts = Counter(case_id for part in split.values() for case_id in part)
        wrong = [case_id for case_id, count in counts.items() if count > 1 or case_id not in seen]
        if wrong:
            yield InputError(
                dataset.root / "splits.json",
                f"fold {fold} names cases that do not exist or are in two parts: {some(wrong)}",
                "every id must be a case and belong to one part",
            )


def read_case(case: Case, dataset: Dataset, *, repair: bool = False) -> LoadedCase:
    """The case's image and objects, validated; boxes of masks are tight (half-open voxels).

    Args:
        repair: objects without voxel or extent are left out, boxes that jut out of the image are cut off.

    Raises:
        ValueError: names the file, what is wrong with it and the fix.
    """
    for problem in inspect(replace(dataset, cases=(case,), splits=None)):
        raise problem
    image = read_case_image(case, dataset)
    label_map = None
    instances = [case.box_instances or Instances.empty(dataset.ndim)]
    if case.label_map is not None:
        found = read_label_map(case.label_map)
        check_same_grid(case.label_map, found.geometry, case.channels[0], image.geometry)
        boxed = _instances_of(found.array, case, repair)
        if case.weak:
            boxed = replace(boxed, has_mask=np.zeros(len(boxed), bool))
        else:
            label_map = found.array
        instances.insert(0, boxed)
    ignored = Instances.empty(dataset.ndim)
    if case.annotate is not None:
        try:
            drawn, others = case.annotate.read(image.geometry)
            ignored = case.annotate.ignored(image.geometry)
        except ValueError as error:
            if str(case.file) in str(error) or any(str(file) in str(error) for file in case.annotate.files):
                raise
            raise InputError(case.file, str(error), "correct it", case.id) from None
        label_map = drawn if label_map is None else label_map
        instances.append(others)
    every = Instances.concatenate(instances)
    inside = _inside(_cut(every, image) if repair else every, image, case)
    regions = case.annotate is not None and case.annotate.ignores_regions
    return LoadedCase(image, inside, label_map, ignored, regions)


def _cut(instances: Instances, image: Image) -> Instances:
    """Boxes with an extent, cut off at the border of the image where they touch it."""
    boxes, shape = instances.boxes, np.array(image.geometry.shape)
    cut = np.clip(boxes, 0, shape).astype(np.float32)
    touches = (cut[:, 0] < cut[:, 1]).all(axis=1, keepdims=True)[..., None]
    return replace(instances, boxes=np.where(touches, cut, boxes))[(boxes[:, 0] < boxes[:, 1]).all(axis=1)]


def _inside(instances: Instances, image: Image, case: Case) -> Instances:
    """The instances, if every box has an extent and lies in the image."""
    shape = image.geometry.shape
    for number, (lower, upper) in zip(instances.ids, instances.boxes, strict=True):
        if not ((lower >= 0) & (lower < upper) & (upper <= shape)).all():
            raise InputError(
                case.file,
                f"box {lower.tolist()} to {upper.tolist()} of object {number} is empty or beyond {shape}",
                "lower < upper and both inside, in voxels, axes in array order",
                case.id,
            )
    return instances


def read_case_image(case: Case, dataset: Dataset) -> Image:
    """The case's channels in one float32 image.

    Raises:
        ValueError: names the file, what is wrong with it and the fix.
    """
    if not case.channels:
        raise InputError(case.file, "no image for this case", "add it; the annotation alone was found", case.id)
    image = read_channels(case.channels, case.opener.read if case.opener else read_image)
    first, shape = case.channels[0], image.geometry.shape
    if len(shape) != dataset.ndim:
        problem = f"has {len(shape)} axes {shape} but the data set declares {dataset.ndim}"
        raise InputError(first, problem, "correct the declaration (dim) or the file", case.id)
    if len(image.array) != len(dataset.channels):
        problem = f"{len(image.array)} channels but the data set declares {len(dataset.channels)}"
        raise InputError(first, problem, "declare every channel (modalities), or save a grey image", case.id)
    return image


def _instances_of(label_map: np.ndarray, case: Case, repair: bool) -> Instances:
    ids, boxes = tight_boxes(label_map)
    _check_ids(ids.tolist(), case, repair)
    labels = np.array([case.mask_labels[i] for i in ids.tolist()], np.int64)
    return Instances(boxes, labels, ids, np.ones(len(ids), bool))


def _check_ids(ids: Iterable[int], case: Case, repair: bool) -> None:
    found, declared = set(ids), set(case.mask_labels)
    name = case.label_map.name if case.label_map else "the label map"
    if found - declared:
        raise InputError(
            case.file,
            f"instance ids {some(found - declared)} of {name} have no class",
            'name the class of each, such as "instances": {"1": 0}, or set their voxels to 0',
            case.id,
        )
    if declared - found and not repair:
        raise InputError(
            case.file,
            f"objects {some(declared - found)} have a class but no voxel in {name}",
            "remove them from the list, or add their masks",
            case.id,
        )
