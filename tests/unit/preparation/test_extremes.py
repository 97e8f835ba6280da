"""What is absurd in one case spoils neither it nor the others, and what is too large is refused before it is made."""

import json
import os

import numpy as np
import pytest

from boxel.api.case_prediction import stamp_of
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.export.prediction import Prediction
from boxel.export.registry import get_format
from boxel.inputs.signatures import BLOCK, BLOCKS, sample
from boxel.io import read_image, write_image
from boxel.preparation.plan import PlanConfig, plan
from boxel.preparation.prepare import prepare, would_prepare
from boxel.preparation.preprocess import preprocess
from boxel.types import Detections, Geometry, Image, Normalisation
from tests.unit.preparation.fingerprints import cubes, data
from tests.unit.preparation.test_preprocess import image_of, task_for


def write(root, ndim, *, channel="MRI", spoil=None, spacings=(1.0,) * 4, splits=("train",) * 4):
    """Noise with a bright cube each; `spoil` changes the voxels of case c1."""
    shape = (20, 22, 24)[-ndim:]
    label_map = np.zeros(shape, np.uint8)
    label_map[(slice(5, 12),) * ndim] = 1
    for number, (spacing, split) in enumerate(zip(spacings, splits, strict=True)):
        array = np.random.default_rng(number).normal(100, 20, (1, *shape)).astype(np.float32) + 200 * label_map
        if spoil and number == 1:
            spoil(array)
        geometry = Geometry.plain(shape, (spacing,) * ndim)
        write_case(root, f"c{number}", Image(array, geometry), label_map, {1: 0}, split=split)
    write_dataset(root, "small", ndim, ["a"], [channel])
    return open_dataset(root)


def at(place, value):
    def spoil(array):
        array[(0,) + (place,) * (array.ndim - 1)] = value

    return spoil


@pytest.mark.parametrize("channel", ["MRI", "CT", "none"])
@pytest.mark.parametrize("value", [1e38, -1e38, 1e7])
def test_one_extreme_voxel_changes_a_prepared_case_at_that_voxel_alone(tmp_path, ndim, channel, value, caplog):
    sound = prepare(write(tmp_path / "a", ndim, channel=channel), tmp_path / "work_a", workers=0)
    dataset = write(tmp_path / "b", ndim, channel=channel, spoil=at(6, value))
    spoilt = prepare(dataset, tmp_path / "work_b", workers=0)
    assert f"{np.float32(value):g} at {(6,) * ndim}" in caplog.text
    expected, found = (store.read("c1")[0] for store in (sound, spoilt))
    mask = np.ones(found.shape, bool)
    mask[(0,) + (6,) * ndim] = False
    np.testing.assert_allclose(found[mask], expected[mask], atol=0.1 * expected.std())
    intensities = [store.fingerprint.intensities[0] for store in (sound, spoilt)]
    assert intensities[1].maximum <= intensities[0].maximum + 1
    assert intensities[1].std == pytest.approx(intensities[0].std, rel=0.02)


def test_a_ct_on_another_scale_decides_no_statistics(tmp_path, ndim, caplog):
    def rescale(array):
        array *= 1e8

    sound = prepare(write(tmp_path / "a", ndim, channel="CT"), tmp_path / "work_a", workers=0)
    spoilt = prepare(write(tmp_path / "b", ndim, channel="CT", spoil=rescale), tmp_path / "work_b", workers=0)
    for field in ("mean", "std", "percentile_00_5", "percentile_99_5"):
        values = [getattr(store.fingerprint.intensities[0], field) for store in (sound, spoilt)]
        assert values[1] == pytest.approx(values[0], rel=0.1)
    assert "c1: values of CT up to" in caplog.text


def test_prediction_sees_what_was_stored(tmp_path, ndim):
    dataset = write(tmp_path / "data", ndim, spoil=at(6, 1e38))
    store = prepare(dataset, tmp_path / "work", PlanConfig(spacing=(0.8,) * ndim), workers=0)
    seen = preprocess(read_case(dataset["c1"], dataset).image, store.task).array
    stored = store.read("c1")[0]
    np.testing.assert_allclose(stored, seen, atol=np.ptp(seen) / 65535)


@pytest.mark.parametrize("kind", ["z_score", "none", "fixed", "ct"])
def test_images_of_programs_are_cleaned_too(ndim, kind, caplog):
    array = np.random.default_rng(0).normal(100, 20, (1,) + (24,) * ndim).astype(np.float32)
    rule = Normalisation(kind=kind, lower=0, upper=200, mean=100, std=20)
    expected = preprocess(image_of(array), task_for(ndim, rule)).array
    array[(0,) + (3,) * ndim] = 1e38
    found = preprocess(image_of(array), task_for(ndim, rule), "mine").array
    assert np.abs(found - expected).max() <= np.ptp(expected)
    assert "mine: 1 voxel far beyond the range" in caplog.text


def test_an_image_that_would_not_fit_the_memory_is_refused_before_it_is_made(tmp_path, ndim, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1000000")
    monkeypatch.setattr("boxel.inputs.memory.LIMITS", (limit,))
    image = image_of(np.zeros((1,) + (10,) * ndim, np.float32), spacing=50.0)
    becomes = r"^image: with its voxel size of 50 x 50.* mm it becomes 5000 x 5000.* voxels \(.*iB\)"
    limits = r" at the plan's spacing of 0\.1 x 0\.1.* mm, too many for 976\.6 KiB of memory; correct"
    with pytest.raises(ValueError, match=becomes + limits):
        preprocess(image, task_for(ndim, Normalisation(), spacing=0.1))


@pytest.mark.parametrize("splits", [("train",) * 4, ("train", "test", "train", "train")])
def test_prepare_names_the_case_that_becomes_too_large(tmp_path, ndim, splits, monkeypatch):
    dataset = write(tmp_path / "data", ndim, channel="US", spacings=(1.0, 45.0, 1.0, 1.0), splits=splits)
    limit = tmp_path / "memory.max"
    limit.write_text("4000000")
    monkeypatch.setattr("boxel.inputs.memory.LIMITS", (limit,))
    with pytest.raises(
        ValueError, match=r"c1_0000\.nii\.gz: with its voxel size of 45 x 45.* it becomes (900 x )?990 x 1080"
    ):
        prepare(dataset, tmp_path / "work", workers=0)


def test_a_case_far_from_the_others_does_not_decide_the_plan(ndim):
    shapes, sizes = [(64,) * ndim] * 5, cubes(ndim, 8, 10, 12)
    ordinary = plan(data(shapes[1:], [(1.0,) * ndim] * 4, sizes))
    spacings = [(1.0,) * ndim] * 4 + [(40.0,) * ndim]
    fingerprint = data(shapes, spacings, sizes)
    absurd = fingerprint.cases[-1].model_copy(update={"labels": (0,) * 9, "sizes": cubes(ndim, *[60] * 9)})
    spoilt = plan(fingerprint.model_copy(update={"cases": (*fingerprint.cases[:-1], absurd)}))
    for field in ("spacing", "patch_size", "strides", "levels", "anchors"):
        assert getattr(spoilt, field) == getattr(ordinary, field), field


def test_a_case_far_from_the_others_is_named_by_prepare(tmp_path, ndim, caplog):
    dataset = write(tmp_path / "data", ndim, channel="US", spacings=(1.0, 0.02, 1.0, 1.0))
    prepare(dataset, tmp_path / "work", workers=0)
    assert "c1_0000.nii.gz: voxel size 0.02 x 0.02" in caplog.text
    assert "the plan is made without this case" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": (50,), "strides": ((4,),)}, "patch_size 50x50.* must be a multiple of the total stride 4x4"),
        ({"patch_size": (50,)}, "patch_size 50x50.* must be a multiple of the total stride"),
        ({"patch_size": (2**26,), "strides": ((2,),)}, r"patch_size .*: \d+ of them are .*iB, too many for"),
    ],
)
def test_a_dry_run_refuses_the_settings_that_prepare_refuses(tmp_path, ndim, settings, message):
    dataset = write(tmp_path / "data", ndim)
    settings = {key: value * ndim if key == "patch_size" else value for key, value in settings.items()}
    if settings["patch_size"][0] == 2**26:
        settings["patch_size"] = (2**42 if ndim == 2 else 2**28,) * ndim
    reasons = []
    for call in (
        lambda config: would_prepare(dataset, config),
        lambda config: prepare(dataset, tmp_path / "w", config),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            call(PlanConfig(**settings))
        reasons.append(str(refused.value))
    assert reasons[0] == reasons[1]


def test_a_dry_run_accepts_what_prepare_accepts(tmp_path, ndim):
    would_prepare(write(tmp_path / "data", ndim), PlanConfig(patch_size=(16,) * ndim))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def swap(path, content):
    """Other content of the same size and modification time."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_swapped_with_equal_size_and_time_is_prepared_again(tmp_path):
    root = tmp_path / "data"
    write(root, 2)
    for number in range(4):  # uncompressed, so that sizes are equal
        file = root / "imagesTr" / f"c{number}_0000.nii.gz"
        write_image(file.with_name(f"c{number}_0000.mha"), read_image(file), compress=False)
        file.unlink()
    dataset = open_dataset(root)
    prepare(dataset, tmp_path / "work", workers=0)
    before = (tmp_path / "work/cases/c1.b2nd").read_bytes()
    one, other = (root / "imagesTr" / f"c{number}_0000.mha" for number in (1, 2))
    stamps = [stamp_of(Stub(), "c1", [one])]
    swap(one, other.read_bytes())
    stamps.append(stamp_of(Stub(), "c1", [one]))
    assert stamps[0] != stamps[1]
    store = prepare(dataset, tmp_path / "work", workers=0)
    assert store.notes[0] == "1 of 4 cases prepared, 3 were ready"
    assert (tmp_path / "work/cases/c1.b2nd").read_bytes() != before
    measured = json.loads((tmp_path / "work/cases/c1.measured.json").read_text())
    assert measured["sample"] == json.loads((tmp_path / "work/cases/c2.measured.json").read_text())["sample"]


class Stub:
    fingerprint = "f"

    class predict_config:  # noqa: N801
        segmentation = False


@pytest.mark.parametrize("size", [0, 1, BLOCK * BLOCKS, BLOCK * BLOCKS + 1, 10**6])
def test_the_sample_covers_the_ends_and_the_middle_of_a_file(tmp_path, size, rng):
    file, content = tmp_path / "a", rng.bytes(size)
    file.write_bytes(content)
    known = sample(file)
    for place in {0, size // 7 + 100, size - 1} if size else ():
        place = min(place, size - 1)
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert sample(file) != known
    file.write_bytes(content)
    assert sample(file) == known


def test_a_swapped_slice_in_a_folder_changes_its_sample(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(bytes([number]) * 100)
    known = sample(tmp_path)
    swap(tmp_path / "1.dcm", b"x" * 100)
    assert sample(tmp_path) != known


@pytest.mark.parametrize("form", ["nifti", "picai"])
def test_a_label_map_larger_than_the_memory_is_refused_before_it_is_made(tmp_path, form):
    geometry = Geometry.plain((2**20,) * 3)
    box = np.array([[[1, 1, 1], [4, 4, 4]]], np.float32)
    detections = Detections(box, np.array([0.5], np.float32), np.array([0]), geometry)
    prediction = Prediction("c1", detections, ("a",))
    with pytest.raises(
        ValueError, match=r"case 'c1': a label map of 1048576 x .* takes .* TiB, too many for .* of memory"
    ):
        get_format(form).writer(tmp_path / "out", [prediction])
