"""Measure the training cases of a data set: from images and objects to the fingerprint."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.config import Config
from boxel.datasets.cases import Case, Dataset, read_case
from boxel.datasets.instances import fills_image
from boxel.datasets.parallel import parallel_cases
from boxel.datasets.source_files import facts, signature, unchanged
from boxel.files import write_text
from boxel.inputs.signatures import Signature
from boxel.inputs.texts import read_json
from boxel.preparation.fingerprint import CaseRecord, Fingerprint, Intensity, ObjectStats
from boxel.preparation.normalisation import normalisation_kind
from boxel.preparation.training_images import describe
from boxel.types import Image, Instances, Progress, silent
from boxel.wording import counted_of

MEASURED = ".measured.json"  # suffix of the measurements of one case
# Values kept per case and channel: evenly spaced quantiles, fine enough for the 0.5th percentile.
SAMPLE_SIZE = 1000
# Values kept per channel of all cases: with more than 4,000 cases each has fewer, so that memory stays small.
MOST_VALUES = 4_000_000
# Surroundings measured with an object, as a fraction of its extent on each side.
MARGIN = 0.25
# Times the median of the largest values of the cases: beyond that, a CT is not in the units of the others.
OTHER_SCALE = 1000


class _Measurement(Config):
    """The measurements of one case, stored on disk so that an interrupted run can be resumed."""

    source: dict[str, Signature]
    facts: str
    record: CaseRecord
    sample: tuple[tuple[float, ...], ...]
    remarks: tuple[str, ...]


def measure(
    dataset: Dataset,
    *,
    ids: Collection[str] | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Fingerprint:
    """Measure the training cases.

    Each case is read once. Its intensities are reduced to a small sample (evenly spaced quantiles: 1,000, and fewer
    with more than 4,000 cases), so that every case has the same weight and memory stays small. The statistics of the
    data set are those of the pooled samples.

    Args:
        ids: the cases to measure; all training cases if None.
        cache: folder for one small JSON per case, from which a later call resumes.
        workers: parallel workers (0: calling thread, None: one per core).
        progress: called with the stage, the number of finished cases and the number of all cases.

    Raises:
        ValueError: a case cannot be read or is invalid (names the file), or there are no cases.
    """
    cases = [case for case in dataset.train if ids is None or case.id in ids]
    if not cases:
        raise ValueError(f"{dataset.root}: no training cases to measure; add images to imagesTr")
    bare = replace(dataset, cases=())

    def measured(case: Case) -> _Measurement:
        path = cache / f"{case.id}{MEASURED}" if cache else None
        measurement = _cached(path, case)
        if measurement is None:
            measurement = _measure(case, bare)
            if path:
                write_text(path, measurement.model_dump_json())
        return measurement

    records: list[CaseRecord] = []
    samples: list[list[np.ndarray]] = []  # a tuple of Python's numbers takes four times the memory
    odd: list[tuple[str, str]] = []
    for result in parallel_cases(measured, cases, workers, progress, "measuring"):
        records.append(result.record)
        samples.append([_quantiles(np.array(channel), MOST_VALUES // len(cases)) for channel in result.sample])
        odd += [(result.record.id, remark) for remark in result.remarks[:1]]
    _warn(dataset, odd, len(records))
    return _summarise(dataset, records, samples)


def _warn(dataset: Dataset, odd: Sequence[tuple[str, str]], total: int) -> None:
    """Log how many cases have remarks, such as a voxel size that was assumed, and one of them."""
    if odd:
        number = counted_of(len(odd), total, "training case", "has a remark", "have remarks")
        first = ": ".join(odd[0])
        logging.getLogger("boxel").warning(f"{number}, such as {first}; boxel check {dataset.root} lists all")


def _cached(path: Path | None, case: Case) -> _Measurement | None:
    if path is None or not path.exists():
        return None
    try:
        known = _Measurement.from_dict(read_json(path), str(path))
    except ValueError:  # written by another version
        return None
    return known if known.facts == facts(case) and unchanged(known.source, case) else None


def _measure(case: Case, dataset: Dataset) -> _Measurement:
    source = signature(case)
    loaded = read_case(case, dataset)
    boxes = loaded.instances.boxes
    record = CaseRecord(
        id=case.id,
        **describe(loaded.image, case.channels[0], getattr(case.opener, "uid", None)),
        labels=loaded.instances.labels.tolist(),
        sizes=np.round(boxes[:, 1] - boxes[:, 0], 3).tolist(),
        masks=int(loaded.instances.has_mask.sum()),
    )
    mask = _surroundings(loaded.instances, record.shape) if len(boxes) else np.ones(record.shape, bool)
    drawn = case.annotate.remarks(loaded.image.geometry) if case.annotate else ()
    inverted = (
        ("an object is as large as the whole image",) if fills_image(loaded.instances, record.shape).any() else ()
    )
    return _Measurement(
        source=source, facts=facts(case), record=record, sample=_sample(loaded.image, mask),
        remarks=(*loaded.image.remarks, *drawn, *inverted),
    )  # fmt: skip


def _surroundings(instances: Instances, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the voxels inside the boxes, each enlarged by a margin; boxes exist with and without masks."""
    extents = instances.boxes[:, 1] - instances.boxes[:, 0]
    lower = np.clip(np.floor(instances.boxes[:, 0] - MARGIN * extents), 0, shape).astype(int)
    upper = np.clip(np.ceil(instances.boxes[:, 1] + MARGIN * extents), 0, shape).astype(int)
    mask = np.zeros(shape, bool)
    for low, high in zip(lower, upper, strict=True):
        mask[tuple(map(slice, low, high))] = True
    return mask


def _sample(image: Image, mask: np.ndarray) -> tuple[tuple[float, ...], ...]:
    rows = []
    for channel in image.array:
        values = np.sort(channel[mask].astype(np.float64))
        rows.append(tuple(_quantiles(values, SAMPLE_SIZE).tolist()))
    return tuple(rows)


def _quantiles(values: np.ndarray, most: int) -> np.ndarray:
    """At most that many of sorted values, at least one, evenly spaced."""
    count = max(1, most)
    return values if len(values) <= count else values[((np.arange(count) + 0.5) / count * len(values)).astype(int)]


def _summarise(dataset: Dataset, records: list[CaseRecord], samples: list[list[np.ndarray]]) -> Fingerprint:
    with_objects = [row for row, record in enumerate(records) if record.labels]
    chosen = with_objects or range(len(records))
    pooled = [
        _pool(channel, {records[row].id: samples[row][number] for row in chosen})
        for number, channel in enumerate(dataset.channels)
    ]
    counts = np.array([len(record.labels) for record in records])
    return Fingerprint(
        name=dataset.name,
        ndim=dataset.ndim,
        channels=tuple(dataset.channels),
        classes=tuple(dataset.classes),
        intensities=tuple(map(_intensity, dataset.channels, pooled)),
        intensities_of="objects" if with_objects else "images",
        objects={name: _object_stats(records, label) for label, name in enumerate(dataset.classes)},
        objects_per_image={
            "least": int(counts.min()),
            "median": float(np.median(counts)),
            "most": int(counts.max()),
            "images_without": int((counts == 0).sum()),
        },
        cases=tuple(records),
    )


def _pool(channel: str, samples: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values of all cases; of CT, which has one scale, without cases on another one, which are logged."""
    largest = np.array([np.abs(values).max(initial=0) for values in samples.values()])
    far = largest > OTHER_SCALE * np.median(largest)
    if normalisation_kind(channel) != "ct" or 2 * far.sum() >= len(far):
        far[:] = False
    for case_id, size in zip(np.array(list(samples))[far], largest[far], strict=True):
        logging.getLogger("boxel").warning(
            f"{case_id}: values of {channel} up to {size:.3g} are far beyond those of the other cases, and the "
            "intensities are measured without this case; rescale it to Hounsfield units"
        )
    return np.concatenate([values for values, is_far in zip(samples.values(), far.tolist(), strict=True) if not is_far])


def _intensity(channel: str, values: np.ndarray) -> Intensity:
    # Hazen: value i of n in a sample represents the quantile (i + 0.5) / n.
    low, median, high = np.percentile(values, (0.5, 50, 99.5), method="hazen").tolist()
    return Intensity(
        channel=channel,
        mean=values.mean(),
        std=values.std(),
        minimum=values.min(),
        percentile_00_5=low,
        median=median,
        percentile_99_5=high,
        maximum=values.max(),
    )


def _object_stats(records: list[CaseRecord], label: int) -> ObjectStats:
    chosen = [(r, np.array(r.sizes)[np.array(r.labels) == label]) for r in records if label in r.labels]
    if not chosen:
        return ObjectStats(count=0, cases=0)
    voxels = np.concatenate([sizes for _, sizes in chosen])
    mm = np.concatenate([sizes * record.spacing for record, sizes in chosen])
    return ObjectStats(count=len(voxels), cases=len(chosen), size_voxels=_percentiles(voxels), size_mm=_percentiles(mm))


def _percentiles(sizes: np.ndarray) -> dict[str, tuple[float, ...]]:
    return {f"{p}%": tuple(np.percentile(sizes, p, axis=0).round(2).tolist()) for p in (10, 50, 90, 99)}
