"""Detection maps of the PI-CAI challenge: `CASE_detection_map.nii.gz`, as picai_eval reads them.

A map holds one class; with several classes, each has its folder. A lesion is a connected part of one score (diagonal
neighbours belong together), so detections must not touch. Where two do, the one with the lower score is cut back to
the largest part that touches no other; if nothing remains of it, it is lost with a warning.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.escaping import file_name
from boxel.export.entries import Entry, collect, holds
from boxel.export.painting import blank, voxels_of
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.inputs.folders import listing, walk
from boxel.io import read_image, write_image
from boxel.output_folder import case_file
from boxel.types import Geometry, Image
from boxel.wording import counted

SUFFIX = "_detection_map.nii.gz"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_detection_map.nii.gz`, or `out/CLASS/CASE_...` where there are several classes (see `file_name`).

    Raises:
        ValueError: a case without geometry.
    """
    paths = []
    for prediction in predictions:
        for name in prediction.classes:
            folder = Path(out) if len(prediction.classes) == 1 else Path(out) / file_name(name)
            path = case_file(folder, prediction.case, SUFFIX)
            image = Image(_detection_map(prediction, name)[None], prediction.geometry)
            write_image(path, image)
            paths.append(path)
    return paths


def _detection_map(prediction: Prediction, wanted: str) -> np.ndarray:
    shape = prediction.geometry.shape
    scores = blank(prediction, np.float32)
    lost = 0
    for row, _, score, name in prediction.ranking:
        if name != wanted:
            continue
        if score <= 0:  # the score of the background
            lost += 1
            continue
        region, mask = voxels_of(prediction.detections, row, shape)
        # One voxel more on each side shows what the detection touches.
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in region)
        taken = _grown(scores[around] > 0)
        inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(region, around, strict=True))
        mask = _largest_part(mask & ~taken[inner])
        lost += not mask.any()
        scores[region][mask] = score
    if lost:
        warnings.warn(
            f"case {prediction.case!r}: {counted(lost, 'detection is', 'detections are')} missing in the detection map "
            f"of class {wanted!r}: the format holds none inside another one, outside the image, or with the score 0",
            stacklevel=2,
        )
    return scores


def _grown(mask: np.ndarray) -> np.ndarray:
    """`mask` and all its neighbours."""
    for axis in range(mask.ndim):
        padded = np.pad(mask, [(int(axis == k),) * 2 for k in range(mask.ndim)])
        parts = [np.take(padded, range(start, start + mask.shape[axis]), axis) for start in range(3)]
        mask = np.logical_or.reduce(parts)
    return mask


def _largest_part(mask: np.ndarray) -> np.ndarray:
    import cc3d

    return cc3d.largest_k(mask, k=1, connectivity=26) > 0 if mask.any() else mask


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from a detection map, a folder of them, or a folder with one folder per class.

    A detection is a connected part with a tight box; its score is the highest in it. Scores above 1 are for
    `--protocol picai` only. Files that do not end in
    `_detection_map.nii.gz` are passed over.

    Raises:
        ValueError: no detection maps there, or negative values.
    """
    import cc3d

    cases: dict[str, tuple[list[Entry], Geometry, Path]] = {}
    names = info.classes or tuple(folder.name for folder in listing(path) if listing(folder, f"*{SUFFIX}"))
    of_folder = {file_name(name): name for name in names}
    for file in _files(path):
        case = file.name.removesuffix(SUFFIX)
        scores, parts, geometry = _read_parts(file)
        inside = file.parent.name in of_folder and file.parent != path
        if len(names) > 1 and not inside:
            raise ValueError(f"{file}: which of the classes {', '.join(names)}? Put it into a folder of that name")
        name = of_folder[file.parent.name] if inside else (names or ("lesion",))[0]
        entries, *_ = cases.setdefault(case, ([], geometry, file))
        for number, region in enumerate(cc3d.statistics(parts)["bounding_boxes"][1:], start=1):
            box = np.array([[s.start for s in region], [s.stop for s in region]], np.float64)
            entries.append(Entry(box, float(scores[region][parts[region] == number].max()), name, str(file)))
    if not cases:
        raise ValueError(f"{path}: no *{SUFFIX} files there")
    return collect(cases, names or ("lesion",), max_score=np.inf)


def read_masks(path: Path, case: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The label map of the parts in each detection map of a case, and their numbers, in the order of `read`."""
    files = [file for file in _files(path) if file.name.removesuffix(SUFFIX) == case]
    return [(parts, np.arange(1, parts.max(initial=0) + 1)) for _, parts, _ in map(_read_parts, files)]


def detect(path: Path) -> bool:
    """Whether there are detection maps, also in folders of classes."""
    return holds(path, f"*{SUFFIX}") or any(
        listing(folder, f"*{SUFFIX}") for folder in listing(path) if folder.is_dir()
    )


def _files(path: Path) -> list[Path]:
    files = (folder / name for folder, _, names in walk(path) for name in names if name.endswith(SUFFIX))
    return sorted(files) if path.is_dir() else [path]


def _read_parts(file: Path) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """The scores of a detection map, the number of the connected part of each voxel, and the grid."""
    import cc3d

    image = read_image(file)
    scores = image.array[0]
    if not ((scores >= 0) & np.isfinite(scores)).all():
        raise ValueError(f"{file}: a detection map holds confidences of 0 and above; this one has lower or no numbers")
    return scores, cc3d.connected_components(scores > 0, connectivity=26), image.geometry


register_export("picai", write, read, detect, read_masks=read_masks, tolerance=0.5)
