"""Data sets in foreign layouts through the verbs: the run's own cases, folders of DICOM series, context slices."""

import csv
import json

import numpy as np
import pytest
from PIL import Image as Picture

import boxel
from boxel.api.channel_files import RunImages
from boxel.api.prediction_inputs import find_images
from boxel.datasets.cases import read_case_image
from boxel.preparation.store import Store
from tests.end_to_end.commands import boxel as command

pytest.importorskip("pydicom")
from tests.unit.datasets.dicom_samples import SHAPE, volume, write_segmentation, write_series

QUICK = (
    "train.steps=2", "train.validate_every=2", "train.batch_size=2", "train.num_workers=0", "train.accelerator=cpu",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
)  # fmt: skip


def write_patients(root, rng, annotated=3, bare=1):
    """DICOM series of several patients, and a SEG of one object for some."""
    mask = np.zeros(SHAPE, bool)
    mask[1:5, 6:20, 8:24] = True
    for number in range(annotated + bare):
        folder, uid = root / f"patient_{number}", f"1.2.826.5.{number}"
        values = {"PatientID": f"p{number}", "FrameOfReferenceUID": f"1.2.826.6.{number}"}
        array = (volume(rng) // 10 + 900 * mask).astype(np.int16)
        files = write_series(folder / "ct", array, uid=uid, **values)
        if number < annotated:
            order = [files.index(file) for file in sorted(files)]
            write_segmentation(folder / "seg.dcm", sorted(files), {"lesion": mask[order]})


def test_a_folder_of_dicom_series_is_predicted_and_evaluated_where_it_is_annotated(tmp_path, rng):
    write_patients(tmp_path / "scans", rng)
    boxel.prepare(tmp_path / "scans", tmp_path / "work", recipe="retina_unet_small", overrides=QUICK)
    run = boxel.train(tmp_path / "work", tmp_path / "run", recipe="retina_unet_small", overrides=QUICK)
    out = command("predict", run, tmp_path / "scans", "--out", tmp_path / "all", "--to", "csv")
    found = {path.stem for path in (tmp_path / "all").glob("*.json")}
    assert found == {f"patient_{number}_ct" for number in range(4)}  # the one without annotation too
    assert "--part test" in out.stderr  # some were trained on
    evaluated = command(
        "evaluate", tmp_path / "all", tmp_path / "scans", "--out", tmp_path / "evaluation", "--resamples", 0
    )
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["num_images"] == 3
    assert "patient_3_ct" in evaluated.stderr  # said, not dropped in silence
    options = ("--format", "dicom", "--option", "negatives=false")
    command("predict", run, tmp_path / "scans", "--out", tmp_path / "test", "--part", "test", *options)
    split = json.loads((run / "split.json").read_text())
    assert [path.stem for path in (tmp_path / "test").glob("*.json")] == split["test"]
    single = command("predict", run, tmp_path / "scans" / "patient_3" / "ct", "--out", tmp_path / "one")
    assert "predicted 1 image in" in single.stdout


def test_the_folds_are_as_many_as_wanted(tmp_path):
    boxel.make_toy(tmp_path / "toys", num_train=9, num_val=0, num_test=0, size=64)
    (tmp_path / "toys" / "splits.json").unlink(missing_ok=True)

    def prepared(*options):
        command("prepare", tmp_path / "toys", "--out", tmp_path / "work", "--recipe", "retina_unet_small", *options)
        return json.loads((tmp_path / "work" / "splits.json").read_text())

    assert [len(prepared("--folds", folds)) for folds in (3, 4)] == [3, 4]
    assert prepared("--folds", 3, "--seed", 1) != prepared("--folds", 3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    refused = command("prepare", tmp_path / "toys", "--out", tmp_path / "work", "--folds", 10, check=False)
    assert refused.returncode == 2
    assert f"boxel: {tmp_path / 'toys'}: 9 groups (patients) of training cases cannot be divid" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")} == before


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    root = tmp_path_factory.mktemp("toys")
    boxel.make_toy(root / "toys", num_train=2, num_val=1, num_test=1, size=64)
    boxel.prepare(root / "toys", root / "work", recipe="retina_unet_small", overrides=QUICK)
    boxel.train(root / "work", root / "run", recipe="retina_unet_small", overrides=QUICK)
    return root


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--part", "tset"), "did you mean 'test'"),
        (("--format", "csv"), "write --to csv"),
        (("--format", "coca"), "did you mean 'coco'"),
        (("--option", "context=1"), "one folder"),
    ],
)
def test_what_predict_cannot_take_is_explained(toys, tmp_path, words, message):
    more = [tmp_path] if "--option" in words else []
    result = command("predict", toys / "run", toys / "toys", *more, "--out", tmp_path / "out", *words, check=False)
    assert (result.returncode, message in result.stderr) == (2, True), result.stderr


def test_images_are_found_in_folders_and_in_data_sets_of_any_layout(toys, tmp_path):
    run = RunImages(("grey",), 2)
    assert list(find_images([toys / "toys" / "imagesTs"], run).cases) == ["test_00000"]
    assert len(find_images([toys / "toys"], run).cases) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no image to predict"):
        find_images([tmp_path / "empty"], run)


def test_numbered_pictures_of_patients_are_predicted_one_by_one_under_names_of_their_own(toys, tmp_path):
    for patient in ("p1", "p2"):
        (tmp_path / "in" / patient).mkdir(parents=True)
        for number in range(2):
            Picture.new("L", (64, 64), 9).save(tmp_path / "in" / patient / f"IMG_{number:04d}.png")
    (tmp_path / "in" / "p1" / "._IMG_0000.png").write_bytes(b"macOS")
    (tmp_path / "in" / "notes.txt").touch()
    said = command("predict", toys / "run", tmp_path / "in", "--out", tmp_path / "in" / "out").stderr
    assert "4 images in 2 folders; 1 left out (not images: notes.txt)" in said
    expected = {f"p{patient}_IMG_000{number}" for patient in (1, 2) for number in range(2)}
    assert {path.stem for path in (tmp_path / "in" / "out").glob("*.json")} == expected
    command("predict", toys / "run", tmp_path / "in" / "p2" / "IMG_0001.png", "--out", tmp_path / "one")
    assert [path.stem for path in (tmp_path / "one").glob("*.json")] == ["IMG_0001"]


def write_deeplesion(root, rng):
    """Eight key slices with a slice on either side, each of its own value: 100, 200 and 300 HU around the lesion."""
    columns = ("File_name", "Patient_index", "Measurement_coordinates", "Bounding_boxes", "Lesion_diameters_Pixel_",
               "Coarse_lesion_type", "Possibly_noisy", "Spacing_mm_px_", "Train_Val_Test")  # fmt: skip
    rows = []
    for number in range(8):
        folder = root / "Images_png" / f"{number:06d}_01_01"
        folder.mkdir(parents=True)
        for slice_number, hu in ((9, 100), (10, 200), (11, 300)):
            array = np.full((64, 64), hu + 32768) + rng.integers(0, 5, (64, 64))
            array[20:40, 24:44] += 500
            Picture.fromarray(array.astype(np.uint16)).save(folder / f"{slice_number:03d}.png")
        part = {6: 2, 7: 3}.get(number, 1)
        rows.append([f"{number:06d}_01_01_010.png", number, "26, 30, 42, 30, 34, 22, 34, 38", "24, 20, 44, 40",
                     "16, 16", 5, 0, "0.8, 0.8, 5", part])  # fmt: skip
    with (root / "DL_info.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def test_context_slices_of_deeplesion_reach_the_model_as_channels(tmp_path, rng):
    write_deeplesion(tmp_path / "dl", rng)
    opened = boxel.open_dataset(tmp_path / "dl", options=["context=1"])
    boxel.prepare(opened, tmp_path / "work", recipe="retina_unet_small", overrides=QUICK)
    store = Store(tmp_path / "work")
    (split,) = store.splits
    assert {part: len(ids) for part, ids in split} == {"train": 6, "val": 1, "test": 1}  # the official one
    assert store.task.channels == ("CT-1", "CT", "CT+1")
    run = boxel.train(tmp_path / "work", tmp_path / "run", recipe="retina_unet_small", overrides=QUICK)
    (model,) = boxel.load(run).models[:1]
    assert next(iter(model.parameters())).shape[1] == 3  # channels of the first convolution
    image = read_case_image(opened.cases[0], opened)
    np.testing.assert_allclose(np.median(image.array, axis=(1, 2)), [102, 202, 302], atol=2)  # below, key, above
    words = ("--option", "context=1", "--part", "test", "--out", tmp_path / "p")
    command("predict", run, tmp_path / "dl", *words)
    command("evaluate", tmp_path / "p", tmp_path / "dl", "--out", tmp_path / "e", "--resamples", 0)
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["num_images"] == 1
