"""Tables 1 and 2 of the papers from a raw folder: a made-up LIDC-IDRI of five patients, in both of its forms."""

import numpy as np
import pytest

from tests.end_to_end.commands import boxel, set_words

pytest.importorskip("pydicom")

from tests.unit.datasets.dicom_samples import SHAPE, ring, volume, write_lidc, write_lidc_segments, write_series

SETTINGS = (
    "train.steps=2", "train.validate_every=2", "train.batch_size=2", "train.num_workers=0", "train.accelerator=cpu",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
)  # fmt: skip
SET = set_words(SETTINGS)


def write_tree(root, form):
    """Five patients, one per fold, with a nodule that three readers rate 4, 3, 3 and one that all four rate 4.

    The first is malignant by the mean of the readers present (3.3), benign with the absent one as 0 (2.5).
    """
    rng = np.random.default_rng(0)
    for patient in range(5):
        folder, uid = root / f"LIDC-IDRI-{patient + 1:04d}", f"1.2.826.2.{patient}"
        names = {"PatientID": folder.name, "StudyInstanceUID": f"1.2.826.1.{patient}"}
        files = write_series(folder / "ct", volume(rng), uid, **names)
        if form == "xml":
            a, b = ({plane: ring(x, y, 8) for plane in (2, 3)} for x, y in ((5, 5), (22, 16)))
            sessions = [
                [("1", 4, a), ("2", 4, b)],
                [("x", 3, a), ("y", 4, b)],
                [("z", 3, a), ("w", 4, b)],
                [("v", 4, b)],
            ]
            write_lidc(folder / "ct" / "001.xml", sessions, uid)
        else:
            a, b = np.zeros((2, *SHAPE), bool)
            a[2:4, 6:12, 6:12], b[2:4, 17:23, 23:29] = True, True
            order = [files.index(file) for file in sorted(files)]
            readings = [("Nodule 1", 4, a), ("Nodule 1", 3, a), ("Nodule 1", 3, a)]
            readings = [(name, score, mask[order]) for name, score, mask in [*readings, *[("Nodule 2", 4, b)] * 4]]
            write_lidc_segments(folder / "annotations", sorted(files), readings)


@pytest.mark.parametrize("form", ["xml", "seg"])
def test_table_1_from_a_raw_folder_shows_the_published_numbers_and_the_counts_of_both_rules(tmp_path, form):
    write_tree(tmp_path / "raw", form)
    words = ("experiment", "run", "lidc", "--preset", "small", "--data", tmp_path / "raw", "--out", tmp_path / "out")
    plan = boxel(*words, "--dry-run", "--jobs", 1).stdout
    assert "lidc: 75 cells" in plan
    assert "about 75 h 0 min left" in plan
    table = boxel(*words, *SET, "--only", "2d/retina_unet/fold=0/seed=0", "--jobs", 1).stdout
    assert "| rule | benign | malignant |" in table
    assert "| absent readers as 0 (`all`) | 5 | 5 |" in table
    assert "| mean of the readers present (`present`) | 0 | 10 |" in table
    assert "| published | 1319 | 494 |" in table
    row = next(line for line in table.splitlines() if line.startswith("| 2D | Retina U-Net |"))
    assert "| 0.408 |" in row
    assert "| 0.680 |" in row
    assert table.count(": missing") == 74


def test_table_2_takes_the_same_folder_with_other_published_numbers(tmp_path):
    write_tree(tmp_path / "raw", "xml")
    words = ("experiment", "run", "breast", "--preset", "small", "--data", tmp_path / "raw", "--out", tmp_path / "out")
    table = boxel(*words, *SET, "--only", "3d/mask_rcnn/fold=1/seed=0", "--jobs", 1).stdout
    row = next(line for line in table.splitlines() if line.startswith("| 3D | Mask R-CNN |"))
    assert "| 0.340 |" in row
    assert "| 0.848 |" in row
    assert "rule |" not in table
