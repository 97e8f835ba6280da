"""The store: prepared cases on disk, compressed so that any part of any case is read in milliseconds.

A store is a folder with `dataset.json`, `fingerprint.json`, `task.json`, `splits.json`, the files of each case in
`cases/` (see `boxel.preparation.stored_case`), and `manifest.json`, which says whether the store is complete.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from boxel.config import Config
from boxel.inputs.texts import read_json
from boxel.preparation.fingerprint import Fingerprint
from boxel.preparation.quantise import from_levels
from boxel.preparation.stored_case import VERSION, CaseMeta, array_files, meta_file
from boxel.types import Split, Task


class Manifest(Config):
    """`manifest.json`, written before the first case and again after the last.

    Attributes:
        contents: hash of the arrays of each case. Stores with equal contents have the same images and label maps.
    """

    version: NonNegativeInt
    complete: bool
    ids: tuple[str, ...]
    contents: dict[str, str] = {}


class Store:
    """The prepared cases of a folder. Cheap to open and to send to another process.

    Attributes:
        path: the folder.
        task: the plan.
        splits: the folds of the cross-validation.
        ids: the ids of all cases.
        notes: sentences about what `prepare` did.

    Raises:
        ValueError: the folder is not a complete store.
    """

    def __init__(self, path: Path, notes: Sequence[str] = ()) -> None:
        self.path, self.notes = Path(path), tuple(notes)
        again = f"run boxel prepare DATASET --out {self.path}"
        if not (self.path / "manifest.json").exists():
            raise ValueError(f"{self.path}: not a prepared folder; {again}")
        manifest = Manifest.load(self.path / "manifest.json")
        if not manifest.complete:
            raise ValueError(f"{self.path}: its preparation was interrupted; {again} again to resume it")
        if manifest.version != VERSION:
            raise ValueError(f"{self.path}: prepared by another version of Boxel; {again} again")
        self.ids = manifest.ids
        self.task = Task.load(self.path / "task.json")
        folds = self.path / "splits.json"
        self.splits = [Split.from_dict(fold, str(folds)) for fold in read_json(folds, list[Any], again)]
        self._metas: dict[str, CaseMeta] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.path, self.notes)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.load(self.path / "fingerprint.json")

    def meta(self, case_id: str) -> CaseMeta:
        """The description of a case: everything except its arrays.

        Raises:
            ValueError: there is no such case.
        """
        if case_id not in self._metas:
            if case_id not in self.ids:
                known = f"its {len(self.ids)}, such as {self.ids[0]!r}" if self.ids else "none"
                raise ValueError(f"{self.path / 'manifest.json'}: no case {case_id!r} among {known}; prepare again")
            self._metas[case_id] = CaseMeta.load(meta_file(self.path, case_id))
        return self._metas[case_id]

    def read(
        self, case_id: str, lower: Sequence[int] | None = None, upper: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a crop of a case, by default all of it: image `(c, *s)` float32 and label map of ids `(*s)` int32.

        Outside the image, the image has its minimum and the label map 0.

        Raises:
            ValueError: there is no such case, or the corners are not one number per axis with lower <= upper.
        """
        meta = self.meta(case_id)
        first = np.zeros(len(meta.shape), int) if lower is None else np.asarray(lower).astype(int)
        last = np.array(meta.shape) if upper is None else np.asarray(upper).astype(int)
        if not first.shape == last.shape == (len(meta.shape),) or (last < first).any():
            raise ValueError(
                f"crop from {first.tolist()} to {last.tolist()} of case {case_id!r} of shape {meta.shape}; "
                "give one number per axis, lower <= upper"
            )
        inner_first, inner_last = np.clip(first, 0, meta.shape), np.clip(last, 0, meta.shape)
        source = tuple(map(slice, inner_first.tolist(), inner_last.tolist()))
        images, label_maps = array_files(self.path, case_id)
        if (inner_first == first).all() and (inner_last == last).all() and (first < last).all():
            return _read_image(images, source, meta), _read(label_maps, source).astype(np.int32)
        target = tuple(map(slice, inner_first - first, inner_last - first))
        image = np.full((len(self.task.channels), *(last - first)), meta.fill, np.float32)
        label_map = np.zeros(last - first, np.int32)
        if (inner_first < inner_last).all():
            image[(slice(None), *target)] = _read_image(images, source, meta)
            label_map[target] = _read(label_maps, source)
        return image, label_map


def _read_image(path: Path, region: tuple[slice, ...], meta: CaseMeta) -> np.ndarray:
    array = _read(path, (slice(None), *region))
    return from_levels(array, meta.scales) if meta.scales else array


def _read(path: Path, region: tuple[slice, ...]) -> np.ndarray:
    """Read a part of a compressed array. Opening takes 0.1 ms, so no handle is kept that threads would share."""
    import blosc2

    try:
        # One thread: a pool would not survive the fork of a data loader. Mapped files are not copied.
        return np.asarray(blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})[region])
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it and run boxel prepare again") from None
