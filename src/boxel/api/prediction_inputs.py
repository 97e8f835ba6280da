"""Which images `boxel predict` takes, what their cases are called, and how each is read."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from boxel.api.channel_files import RunImages, group_files
from boxel.api.dicom_inputs import dicom_cases
from boxel.api.given_boxes import GivenBoxes
from boxel.api.label_map_names import label_maps
from boxel.datasets.cases import Case, Dataset, open_case_image
from boxel.datasets.formats import formats, open_dataset
from boxel.datasets.formats.registry import Format
from boxel.datasets.names import case_ids
from boxel.datasets.problems import some
from boxel.inputs.folders import listing, walk
from boxel.io import SUFFIXES, is_dicom, open_image, split_suffix
from boxel.io.channels import fit_image, open_channels
from boxel.output_folder import list_files
from boxel.slabs import Voxels
from boxel.types import Image
from boxel.wording import counted

__all__ = ["Images", "find_images", "images_of", "open_images"]

DATA = (".raw", ".zraw", ".img")  # the voxels of a header beside them
LABELS = re.compile(r"(.*_)?(instances|labels?|masks?|segs?|segmentations?|annotations?)(Tr|Ts)?", re.IGNORECASE)


@dataclass(frozen=True)
class Images:
    """The cases to predict by their names.

    Attributes:
        datasets: the data set of each case that is one of a data set.
        taken: a description of the images.
        left_out: the names of what is not predicted, by the reason.
        given: the boxes to segment of each case, instead of those the run would detect.
    """

    run: RunImages
    cases: Mapping[str, Case]
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    taken: str = ""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    given: Mapping[str, GivenBoxes] = field(default_factory=dict)

    def __str__(self) -> str:
        number = sum(map(len, self.left_out.values()))
        reasons = "; ".join(f"{reason}: {some(names)}" for reason, names in self.left_out.items())
        return self.taken + (f"; {number} left out ({reasons})" if number else "")

    def only(self, name: str) -> "Images":
        """One of the cases, small enough to travel to another process."""
        data = self.datasets.get(name)
        datasets = {name: replace(data, cases=(), splits=None, unlabelled=())} if data else {}
        given = {name: self.given[name]} if name in self.given else {}
        return Images(self.run, {name: self.cases[name]}, datasets, given=given)

    def read(self, name: str) -> Image[Voxels]:
        """The image of a case as it is stored, with the axes and channels that the run takes.

        Raises:
            ValueError: names the file, the problem and a suggested fix.
        """
        case = self.cases[name]
        if name in self.datasets:
            image = open_case_image(case, self.datasets[name])
        else:
            image = open_channels(case.channels, case.opener.read if case.opener else open_image)
        return fit_image(image, self.run.channels, self.run.ndim, case.channels[0])


def images_of(dataset: Dataset, run: RunImages) -> Images:
    """Every case of a data set; the images below its folder that are not in it are left out."""
    cases = {case.id: case for case in dataset.cases}
    used = _files_of(dataset)
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    others = [file for file in _walk(root, None, defaultdict(list)) if _is_image(file)]
    unused = [file for file in others if not {os.path.realpath(f) for f in (file, file.parent)} & used]
    layout = f", layout {dataset.format}" if dataset.format else ""
    taken = f"{counted(len(cases), 'case')} of the data set {dataset.root}{layout}"
    left_out = {"not in the data set": [str(file.relative_to(root)) for file in unused]} if unused else {}
    return Images(run, cases, dict.fromkeys(cases, dataset), taken, left_out)


def find_images(paths: Sequence[Path], run: RunImages, skip: Path | None = None) -> Images:
    """The images of files and folders, also those of the folders in them.

    A folder that is a data set in a known layout gives its cases. Otherwise every image file is a case, except that
    CASE_0000, CASE_0001 ... are one for a run on several channels; so is every DICOM series that fits the run.

    Args:
        paths: files and folders.
        run: what the run takes.
        skip: a folder that is not searched: that of the results.

    Raises:
        ValueError: nothing there, no image that fits, or the files of a case are incomplete.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder; check the path")
    dataset = _dataset_at(paths[0]) if len(paths) == 1 and not _is_image(paths[0]) else None
    if dataset and not any(map(_is_image, listing(paths[0]))):
        return images_of(dataset, run)
    root = _common_folder(paths)
    left_out: dict[str, list[str]] = defaultdict(list)
    files: dict[str, Path] = {}
    named: list[tuple[Path, Sequence[Path]]] = []
    with_dicom: list[tuple[Path, set[Path]]] = []
    for path in paths:
        if path.is_dir():
            inside = list(_walk(path, skip, left_out))
            with_dicom.append((path, {file.parent for file in inside if not _is_image(file) and is_dicom(file)}))
            files |= {os.path.abspath(file): file for file in inside if _is_image(file)}
            rest = [file for file in inside if not (_is_image(file) or is_dicom(file) or file.suffix.lower() in DATA)]
            left_out["not images"] += [str(file.relative_to(path)) for file in rest]
        elif _is_image(path):
            files[os.path.abspath(path)] = path
        elif is_dicom(path):
            named.append((path.parent / path.name.removesuffix(path.suffix), (path,)))
        else:
            raise ValueError(f"{path}: not an image; known: {', '.join(sorted(SUFFIXES))} and DICOM")
    used = _files_of(dataset) if dataset else set()
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    maps = label_maps(map(Path, files), root, [Path(os.path.abspath(p)) for _, places in with_dicom for p in places])
    for place, file in files.items():
        if Path(place) in maps:
            left_out["label maps"].append(os.path.relpath(place, root))
        elif os.path.realpath(place) not in used:
            by_folder[Path(place).parent].append(file)
    named += [case for inside in by_folder.values() for case in group_files(sorted(inside), run)]
    ids = case_ids([Path(os.path.abspath(place)) for place, _ in named], root)
    cases = [Case(name, tuple(channels)) for name, (_, channels) in zip(ids, named, strict=True)]
    for path, places in with_dicom:
        cases += dicom_cases(path, places, root, run.channels, run.ndim, left_out, run.force) if places else ()
    cases += dataset.cases if dataset else ()
    left_out = {reason: names for reason, names in left_out.items() if names}
    unique = _unique(cases)
    folders = {channel if channel.is_dir() else channel.parent for case in cases for channel in case.channels}
    where = f" in {len(folders)} folders" if len(folders) > 1 else ""
    datasets = {case.id: dataset for case in dataset.cases} if dataset else {}
    found = Images(run, unique, datasets, f"{counted(len(cases), 'image')}{where}", left_out)
    if not cases:
        known = f"known: {', '.join(sorted(SUFFIXES))}, DICOM series, and data sets (boxel check FOLDER)"
        raise ValueError(f"{', '.join(map(str, paths))}: no image to predict: {found}; {known}")
    return found


def open_images(path: Path, format: str = "", options: Sequence[str] = ()) -> Dataset:  # noqa: A002
    """The cases of a data set; of DICOM folders every series, whether annotated or not."""
    dataset = open_dataset(path, format=format, options=options)
    bare = dataset.format == "dicom" and not any(option.startswith("negatives=") for option in options)
    return open_dataset(path, format="dicom", options=[*options, "negatives=true"]) if bare else dataset


def _dataset_at(path: Path) -> Dataset | None:
    """The data set at a path, or in the only folder there that is one; None for bare images and DICOM."""
    known = [layout for layout in formats().values() if layout.name != "dicom"]

    def layout(place: Path) -> Format | None:
        return next((layout for layout in known if layout.detect(place)), None)

    own = layout(path)
    if own is None and path.is_dir() and not any(map(_is_image, listing(path))):
        inner = [folder for folder in listing(path) if folder.is_dir()]
        own = layout(inner[0]) if len(inner) == 1 else None
    try:
        return open_dataset(path, format=own.name) if own else None
    except ValueError as error:
        if not any(map(_is_image, listing(path))):
            raise
        logging.getLogger("boxel").warning(f"{error}; the images are predicted without their annotations")
        return None


def _walk(root: Path, skip: Path | None, left_out: dict[str, list[str]]) -> Iterator[Path]:
    """The files below a folder in order; not those in folders of label maps or predictions. Links are followed."""

    def denied(error: OSError) -> None:
        raise ValueError(f"{error.filename}: cannot be listed ({error.strerror}); change its mode (chmod) or owner")

    for folder, folders, names in walk(root, denied):
        kept = []
        for name in folders:
            inner = folder / name
            if skip is not None and inner.resolve() == skip.resolve():
                continue
            results = any(list_files(inner / "raw", ".npz"))
            if LABELS.fullmatch(name) or results:
                left_out["predictions" if results else "label maps"].append(f"{inner.relative_to(root)}/")
            else:
                kept.append(name)
        folders[:] = kept
        for file in (folder / name for name in names):
            if file.name.lower().endswith(".seg.nrrd"):
                left_out["label maps"].append(str(file.relative_to(root)))
            else:
                yield file


def _unique(cases: Sequence[Case]) -> dict[str, Case]:
    unique: dict[str, Case] = {}
    for case in cases:
        other = unique.setdefault(case.id, case)
        if other is not case:
            problem = f"{other.channels[0]} is also called {case.id!r}"
            raise ValueError(f"{case.channels[0]}: {problem}; rename one of them, or predict them in two calls")
    return unique


def _files_of(dataset: Dataset) -> set[str]:
    """The paths of the images and annotations of a data set, without links."""
    files = []
    for case in dataset.cases:
        files += [*case.channels, case.label_map, case.annotation, *(case.annotate.files if case.annotate else ())]
    return {os.path.realpath(file) for file in files if file}


def _common_folder(paths: Sequence[Path]) -> Path:
    if len(paths) == 1 and paths[0].is_dir():
        return Path(os.path.abspath(paths[0]))
    return Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))


def _is_image(path: Path) -> bool:
    return bool(split_suffix(path)[1]) and path.is_file()
