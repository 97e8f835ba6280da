"""Prepare one case of a data set and write it to the store."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset, read_case
from boxel.datasets.source_files import facts, signature, unchanged
from boxel.files import write_bytes
from boxel.inputs.signatures import content_hash, digest
from boxel.inputs.texts import read_json
from boxel.io import resample
from boxel.preparation.preprocess import normalisations, normalise, on_grid
from boxel.preparation.quantise import to_levels
from boxel.preparation.stored_case import VERSION, CaseFile, array_files, meta_file
from boxel.types import Image, Instances, Task, rescale_boxes

# Bytes of a block, the least that a read decompresses, and of a chunk of blocks: the fastest sizes for patches in
# docs/results/store.md.
BLOCK_BYTES = 2**14
CHUNK_BYTES = 2**18


def stored_content(root: Path, case: Case, task: Task) -> str:
    """The content of a case that is stored, prepared from the same files in the same way; empty if it is not."""
    try:
        file = CaseFile.from_dict(read_json(meta_file(root, case.id)))
    except ValueError:  # missing, or of another version
        return ""
    kept = whole(root, file) and file.key == _key(case, task) and unchanged(file.source, case)
    return content(file.arrays) if kept else ""


def whole(root: Path, file: CaseFile) -> bool:
    """Whether all arrays exist in full length."""
    paths = array_files(root, file.id)
    return all(path.exists() and path.stat().st_size == file.arrays[path.name][0] for path in paths)


def content(arrays: Mapping[str, tuple[int, str]]) -> str:
    """Hash of the arrays of a stored case, equal on every machine."""
    return digest(sorted(arrays.items()))


def store_case(root: Path, case: Case, dataset: Dataset, task: Task) -> str:
    """Prepare one case and write its files; returns their content.

    The JSON is written last: it marks the others as complete.
    """
    source = signature(case)
    loaded = read_case(case, dataset)
    array, scales = _normalised(on_grid(loaded.image, task, str(case.channels[0])).array, task)
    shape = array.shape[1:]
    label_map = np.zeros(shape, np.uint8)
    if loaded.label_map is not None:
        label_map = resample(Image(loaded.label_map, loaded.image.geometry), shape, label_map=True).array
    instances = _stored_instances(loaded.instances, label_map, loaded.image.geometry.shape)
    ignored = np.zeros((0, 2, len(shape))) if loaded.ignored is None else loaded.ignored.boxes
    slices = len(shape) - task.ndim
    image_path, labels_path = array_files(root, case.id)
    smallest = label_map.astype(np.min_scalar_type(int(label_map.max())))
    stored = {
        image_path.name: _write(image_path, compressed(array, thin_axes=1 + slices, levels=bool(scales))),
        labels_path.name: _write(labels_path, compressed(smallest, thin_axes=slices)),
    }
    file = CaseFile(
        id=case.id,
        group=case.group,
        split=case.split,
        files=tuple(map(str, case.channels)),
        shape=shape,
        scales=scales,
        fill=min(offset for offset, _ in scales) if scales else float(array.min()),
        original=loaded.image.geometry,
        labels=loaded.instances.labels.tolist(),
        ids=loaded.instances.ids.tolist(),
        boxes=instances.boxes.tolist(),
        ignored=rescale_boxes(ignored, loaded.image.geometry.shape, shape).tolist(),
        has_mask=instances.has_mask.tolist(),
        original_boxes=loaded.instances.boxes.tolist(),
        original_has_mask=loaded.instances.has_mask.tolist(),
        source=source,
        arrays=stored,
        key=_key(case, task),
    )
    write_bytes(meta_file(root, case.id), file.model_dump_json().encode())
    return content(stored)


def _write(path: Path, data: bytes) -> tuple[int, str]:
    write_bytes(path, data)
    return len(data), content_hash(data)


def _normalised(array: np.ndarray, task: Task) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
    """Normalise an image `(c, *s)` and turn it into levels with scales; without scales if these are too coarse."""
    rules = normalisations(array, task.normalisation)
    levels = [known for channel in array if (known := to_levels(channel))]
    if len(levels) < len(array):
        return normalise(array, rules), ()
    scales = [((one.offset - shift) / by, one.scale / by) for one, (shift, by) in zip(levels, rules, strict=True)]
    return np.stack([one.array for one in levels]) if levels[1:] else levels[0].array[None], tuple(scales)


def _stored_instances(instances: Instances, label_map: np.ndarray, original_shape: tuple[int, ...]) -> Instances:
    """Objects in stored voxels: the tight box of the resampled mask, otherwise the original box, scaled."""
    boxes = rescale_boxes(instances.boxes, original_shape, label_map.shape)
    has_mask = instances.has_mask.copy()
    for row in np.flatnonzero(has_mask) if label_map.shape != tuple(original_shape) else ():
        lower = np.maximum(np.floor(boxes[row, 0]).astype(int) - 1, 0)
        upper = np.ceil(boxes[row, 1]).astype(int) + 1
        voxels = np.argwhere(label_map[tuple(map(slice, lower, upper))] == instances.ids[row])
        has_mask[row] = len(voxels) > 0
        if len(voxels):
            boxes[row] = lower + voxels.min(axis=0), lower + voxels.max(axis=0) + 1
    return replace(instances, boxes=boxes, has_mask=has_mask)


def _key(case: Case, task: Task) -> str:
    fields = {"ndim", "spacing", "normalisation", "channels"}
    if task.spacing_unit != "mm":
        fields.add("spacing_unit")
    made = task.model_dump(mode="json", include=fields)
    return digest([VERSION, made, facts(case)])


def compressed(array: np.ndarray, *, thin_axes: int, levels: bool = False) -> bytes:
    """The content of a `.b2nd` file in near-cubic blocks that are one voxel thick along the first axes.

    Unshuffled, the levels of an image take half the bytes of a float. Shuffled they would take a third less but twice
    the time to read: the lower bytes of noise compress a little, but slowly.
    """
    import blosc2

    stored = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=_cube(array.shape, CHUNK_BYTES // array.itemsize, thin_axes),
        blocks=_cube(array.shape, BLOCK_BYTES // array.itemsize, thin_axes),
        cparams={
            "codec": blosc2.Codec.LZ4,
            "clevel": 1 if levels else 5,
            "filters": [blosc2.Filter.NOFILTER if levels else blosc2.Filter.SHUFFLE],
            "nthreads": 1,
        },
    )
    return stored.to_cframe()  # type: ignore[no-any-return]


@cache
def _cube(shape: tuple[int, ...], limit: int, thin_axes: int) -> tuple[int, ...]:
    """Edges of a near-cube of at most `limit` voxels; the shortest edge is doubled as long as there is room."""
    edges = np.ones(len(shape), int)
    growing = list(range(thin_axes, len(shape)))
    while growing:
        axis = min(reversed(growing), key=lambda axis: edges[axis])
        grown = edges.copy()
        grown[axis] = min(2 * edges[axis], shape[axis])
        if edges[axis] == shape[axis] or grown.prod() > limit:
            growing.remove(axis)
        else:
            edges = grown
    return tuple(edges.tolist())
