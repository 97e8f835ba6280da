"""Whether a reader of data sets keeps the promises that Boxel's commands rely on."""

import copy
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from boxel.datasets.cases import Case, Dataset, LoadedCase, read_case
from boxel.datasets.formats import Format, get_format, open_dataset
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.names import can_name_files
from boxel.datasets.problems import InputError
from boxel.datasets.source_files import facts
from boxel.datasets.split import check_splits

__all__ = ["check_reader"]


def check_reader(reader: str | Format, folder: Path | str, options: Sequence[str] = ()) -> None:
    """Check a reader of data sets on a sound example.

    The reader must recognise the folder but not an empty one, refuse unknown options, return the same data set twice,
    and name cases uniquely by names that can be file names. Every case must open: image and label map on one grid,
    boxes inside the image and tight around their masks, classes known, object numbers unique. Cases must survive
    pickling, since worker processes receive them.

    Args:
        reader: name of a registered format, or a `Format`.
        folder: a data set in this layout without errors; a few small cases are enough.
        options: settings of the reader, each `"key=value"`.

    Raises:
        AssertionError: lists every broken promise.

    Example:
        >>> import boxel, tempfile
        >>> from boxel.testing import check_reader
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     toys = boxel.make_toy(folder, num_train=2, num_val=1, num_test=1, size=32)
        ...     check_reader("native", toys)
    """
    known = get_format(reader) if isinstance(reader, str) else reader
    broken = list(_broken(known, Path(folder), options))
    if broken:
        raise AssertionError(f"reader {known.name!r} on {folder}:" + "".join(f"\n- {promise}" for promise in broken))


def _broken(known: Format, folder: Path, options: Sequence[str]) -> Iterator[str]:
    if not known.detect(folder):
        yield "detect() does not recognise the folder"
    yield from _on_nothing(known)
    yield from _unknown_option(known)
    problems: list[InputError] = []
    try:
        dataset, again = (open_dataset(folder, problems.append, format=known, options=options) for _ in range(2))
    except Exception as error:  # a reader may raise anything: that is what is checked
        yield f"the folder cannot be opened ({_said(error)})"
        return
    yield from sorted({f"reports an error: {problem}" for problem in problems if problem.severity == "error"})
    if [facts(case) for case in dataset.cases] != [facts(case) for case in again.cases] or dataset != again:
        yield (
            "two calls return different data sets; sort what you list, and let annotators and openers be frozen "
            "dataclasses, whose repr() shows all they contain"
        )
    yield from _names(dataset)
    for case in dataset.cases:
        yield from _case(case, dataset)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _on_nothing(known: Format) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        empty = Path(name)
        try:
            if known.detect(empty):
                yield "detect() recognises an empty folder, and would hide the layouts that come later"
            known.read(empty, lambda problem: None, known.parse([]))
        except ValueError:
            pass  # the message says what is missing
        except Exception as error:
            yield f"an empty folder raises {_said(error)}; raise a ValueError that says what is missing"


def _unknown_option(known: Format) -> Iterator[str]:
    try:
        known.parse(["no_such_option=1"])
    except ValueError:
        return
    yield "an unknown option is accepted; derive the options from ReaderOptions"


def _names(dataset: Dataset) -> Iterator[str]:
    if not dataset.cases:
        yield "the folder has no cases; give an example with some"
    if not dataset.classes or not dataset.channels:
        yield f"classes {dataset.classes} and channels {dataset.channels}: name at least one of each"
    if len(set(dataset.classes)) < len(dataset.classes):
        yield f"class names {dataset.classes} are not unique"
    for name, count in Counter(case.id for case in dataset.cases).items():
        if count > 1:
            yield f"case {name!r} appears {count} times"
        if not can_name_files(name):
            yield f"case {name!r} cannot be a file name"
    if {case.split for case in dataset.cases} - {"train", "test"}:
        yield 'the split of a case is neither "train" nor "test"'
    if dataset.splits is not None:
        try:
            check_splits(dataset.splits, dataset.cases, "splits")
        except ValueError as error:
            yield str(error)


def _case(case: Case, dataset: Dataset) -> Iterator[str]:
    if not case.channels:
        yield f"case {case.id!r} has no image"
        return
    try:
        loaded = read_case(case, dataset)
        copied = read_case(pickle.loads(pickle.dumps(case)), copy.copy(dataset))
    except Exception as error:
        yield f"case {case.id!r} cannot be read, or not after pickling ({_said(error)})"
        return
    yield from (f"case {case.id!r}: {problem}" for problem in _contents(loaded, len(dataset.classes)))
    if not np.array_equal(loaded.instances.boxes, copied.instances.boxes):
        yield f"case {case.id!r} has other objects after pickling"


def _contents(loaded: LoadedCase, num_classes: int) -> Iterator[str]:
    objects, shape = loaded.instances, loaded.image.geometry.shape
    if ((objects.labels < 0) | (objects.labels >= num_classes)).any():
        yield f"labels {sorted(set(objects.labels.tolist()))} but there are {num_classes} classes"
    if len(set(objects.ids.tolist())) < len(objects):
        yield f"object numbers {objects.ids.tolist()} are not unique"
    masked = objects[objects.has_mask]
    if loaded.label_map is None:
        if len(masked):
            yield "objects have masks but there is no label map"
        return
    if loaded.label_map.shape != shape:
        yield f"the label map has shape {loaded.label_map.shape}, the image {shape}"
        return
    ids, boxes = tight_boxes(loaded.label_map)
    order = np.argsort(masked.ids)
    if not np.array_equal(masked.ids[order], ids):
        yield f"objects with masks are {sorted(masked.ids.tolist())}, the label map shows {ids.tolist()}"
    elif not np.array_equal(masked.boxes[order], boxes):
        yield "boxes of objects with masks are not tight around the masks"
