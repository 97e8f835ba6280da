"""The formats of prediction files, registered under the names that users type."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.config import did_you_mean
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.inputs.folders import listed_once
from boxel.plugins import Registry

Writer = Callable[[Path, Sequence[Prediction]], list[Path]]
Reader = Callable[[Path, DatasetInfo], list[Prediction]]
MaskReader = Callable[[Path, str], list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Format:
    """A format of prediction files; the attributes are the arguments of `register_export`."""

    name: str
    write: Writer | None = None
    read: Reader | None = None
    detect: Callable[[Path], bool] | None = None
    read_masks: MaskReader | None = None
    ndims: tuple[int, ...] = (2, 3)
    tolerance: float = 1e-3
    flat: bool = False
    for_viewers: bool = False

    @property
    def writer(self) -> Writer:
        """The function that writes; raises ValueError if the format is only read."""
        if self.write is None:
            raise ValueError(f"format {self.name!r} cannot be written; write one of {', '.join(_names('write'))}")
        return self.write

    @property
    def writer_of_shown(self) -> Writer:
        """The function that writes, given all detections; a format for viewers gets those above their thresholds."""
        write = self.writer
        return (lambda out, given: write(out, [one.above() for one in given])) if self.for_viewers else write

    @property
    def reader(self) -> Reader:
        """The function that reads; raises ValueError if the format is only written."""
        if self.read is None:
            raise ValueError(f"format {self.name!r} cannot be read; read one of {', '.join(_names('read'))}")
        return self.read


_formats: Registry[Format] = Registry("export format")


def register_export(
    name: str,
    write: Writer | None = None,
    read: Reader | None = None,
    detect: Callable[[Path], bool] | None = None,
    *,
    read_masks: MaskReader | None = None,
    ndims: tuple[int, ...] = (2, 3),
    tolerance: float = 1e-3,
    flat: bool = False,
    for_viewers: bool = False,
) -> None:
    """Add a format to `predict --to`, `convert --to`, `convert --from` and `evaluate --from`.

    Args:
        name: what users type.
        write: writes the predictions of a data set into a folder and returns the files written; None for a format
            that is only read.
        read: returns the predictions in a file or folder, given what is known about the data set; None for a format
            that is only written.
        detect: whether a file or folder holds this format, without opening images; None for a format that is only
            read when named. Boxel JSON is asked first, then formats from the last registered to the first.
        read_masks: returns the label maps of a case, each with the ids of its objects; together the ids are in the
            order of the case's detections. None where masks, if any, are in `Detections.masks`.
        ndims: numbers of image axes that the format supports.
        tolerance: how far a box may move when it is written and read back, in voxels.
        flat: boxes are read back one voxel thick along all axes but the last two.
        for_viewers: people look at it, so that it gets only the detections that reach the score threshold of their
            class; other formats get all, as metrics need them.

    Raises:
        ValueError: the name is taken.

    Example:
        >>> import boxel, json
        >>> def write(out, predictions):
        ...     out.mkdir(parents=True, exist_ok=True)
        ...     _ = (out / "count.json").write_text(json.dumps({p.case: len(p.detections) for p in predictions}))
        ...     return [out / "count.json"]
        >>> boxel.register_export("count_doctest", write)
    """
    _formats[name] = Format(name, write, read, detect, read_masks, ndims, tolerance, flat, for_viewers)


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        ValueError: unknown; suggests the most similar name.
    """
    if name not in _formats:
        raise ValueError(f"unknown format {name!r}{did_you_mean(name, _formats)}")
    return _formats[name]


def list_formats() -> Mapping[str, Format]:
    """Every format by its name."""
    return dict(_formats)


def recognise(path: Path) -> Format:
    """The format of a file or folder of predictions; Boxel JSON if no format detects it.

    Boxel JSON comes first, since `predict --to` writes the other formats into folders below it. The others are asked
    from the last registered to the first, so that a user's format comes before the package's.
    """
    own = _formats["boxel"]
    others = [form for form in reversed(list(_formats.values())) if form is not own]
    with listed_once():
        return next((form for form in (own, *others) if form.detect and form.detect(Path(path))), own)


def _names(ability: str) -> list[str]:
    return [name for name, form in _formats.items() if getattr(form, ability) is not None]
