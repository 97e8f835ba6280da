"""What `check` says once instead of for every case, and how it counts."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.api.run import read_run
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.quality.check import examine
from boxel.types import Geometry, Image


def roboflow(root, objects=({"category_id": 1},), placeholder="none"):
    categories = [
        {"id": 0, "name": "cells", "supercategory": placeholder},
        {"id": 1, "name": "RBC", "supercategory": "cells"},
        {"id": 2, "name": "WBC", "supercategory": "cells"},
    ]
    for part in ("train", "valid", "test"):
        (root / part).mkdir(parents=True)
        noise = np.random.default_rng(len(part)).integers(0, 255, (30, 40, 3)).astype(np.uint8)
        Picture.fromarray(noise).save(root / part / f"{part}.png")
        drawn = [{"id": n, "image_id": 1, "bbox": [3, 4, 9, 9], **one} for n, one in enumerate(objects, 1)]
        values = {"images": [{"id": 1, "file_name": f"{part}.png"}], "annotations": drawn, "categories": categories}
        (root / part / "_annotations.coco.json").write_text(json.dumps(values))
    return root


def test_a_category_that_groups_all_others_is_no_class_and_a_note_says_so(tmp_path):
    problems = []
    assert open_dataset(roboflow(tmp_path), problems.append).classes == ("RBC", "WBC")
    assert [problem.severity for problem in problems if "category 'cells' only groups" in problem.problem] == ["note"]


@pytest.mark.parametrize("change", [{"objects": ({"category_id": 0},)}, {"placeholder": "all"}])
def test_a_category_with_objects_or_with_a_group_of_its_own_is_a_class(tmp_path, change):
    assert open_dataset(roboflow(tmp_path, **change)).classes == ("cells", "RBC", "WBC")


def test_validation_cases_are_listed_as_such(tmp_path):
    rows = examine(roboflow(tmp_path), workers=0).rows()
    assert {row["case"]: row["split"] for row in rows} == {"train": "train", "valid": "val", "test": "test"}


def test_what_differs_only_in_the_numbers_of_objects_is_said_once(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(6):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Picture.fromarray(rng.integers(0, 255, (30, 40)).astype(np.uint8)).save(tmp_path / f"images/p{n}.png")
        drawn = np.zeros((30, 40), np.uint8)
        for k in range(1, 9):
            drawn[3 * k : 3 * k + 3, 3:20] = k
        drawn[3 * (n + 1) : 3 * (n + 1) + 3] = 0
        drawn[3 * (n + 1), 3] = n + 1
        Picture.fromarray(drawn).save(tmp_path / f"labels/p{n}.png")
    specks = [finding for finding in examine(tmp_path, workers=0).findings if "remove specks" in finding.suggested_fix]
    assert [finding.problem.partition(" smaller")[0] for finding in specks] == ["6 cases: objects are"]


def test_grey_pictures_among_colours_are_said_once(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(9):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        shape = (30, 40) if n else (30, 40, 3)
        Picture.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(tmp_path / f"images/p{n}.png")
        drawn = np.zeros((30, 40), np.uint8)
        drawn[5:15, 5:15] = 1
        Picture.fromarray(drawn).save(tmp_path / f"labels/p{n}.png")
    grey = [finding.problem for finding in examine(tmp_path, workers=0).findings if "grey" in finding.problem]
    assert len(grey) == 1
    assert grey[0].startswith("8 cases: a grey picture among colours")


def test_a_run_in_the_folder_is_suggested(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "task.json"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(ValueError, match=r"not a run folder \(no config\.json\); did you mean .*/run\?"):
        read_run(tmp_path)


def test_a_layout_without_cases_says_what_it_looked_for(tmp_path):
    (tmp_path / "scans").mkdir()
    Picture.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "scans/a.png")
    examination = examine(tmp_path, format="pairs", workers=0)
    assert [finding.problem for finding in examination.findings] == [
        "no image has a label map that corresponds by name"
    ]
    assert examination.summary == "the data set cannot be opened"


def test_an_error_of_many_cases_is_said_once_with_their_names(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [polyp]\n")
    for n in range(5):
        for folder in ("images", "labels"):
            (tmp_path / folder / "train").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(n).integers(0, 255, (30, 40)).astype(np.uint8)
        Picture.fromarray(noise).save(tmp_path / f"images/train/p{n}.png")
        (tmp_path / f"labels/train/p{n}.txt").write_text(f"{int(n > 0)} 0.5 0.5 0.4 0.4\n")
    errors = [finding for finding in examine(tmp_path, workers=0).findings if finding.severity == "error"]
    assert [error.problem for error in errors] == ["4 cases: unknown class id 1 (p1, p2, p3, p4)"]


def test_a_copy_that_hides_the_mask_of_an_object_is_only_a_copy(tmp_path):
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)).save(tmp_path / "a.png")
    shape = {"label": "x", "shape_type": "polygon", "points": [[3, 3], [20, 3], [20, 20], [3, 20]]}
    box = {"label": "x", "shape_type": "rectangle", "points": [[25, 3], [35, 20]]}
    for shapes, says in (([shape, shape], []), ([shape, shape, box], ["object 3 is without a mask, unlike others"])):
        values = {"version": "5", "shapes": shapes, "imagePath": "a.png", "imageHeight": 30, "imageWidth": 40}
        (tmp_path / "a.json").write_text(json.dumps(values))
        problems = [finding.problem for finding in examine(tmp_path, workers=0).findings]
        assert [problem for problem in problems if "in the annotation twice" in problem] != []
        assert [problem.removesuffix(" of the image") for problem in problems if "without a mask" in problem] == says


@pytest.mark.parametrize("label", [-1, -(10**30), 1, 10**30])
def test_an_object_of_no_class_is_not_counted_for_another(tmp_path, label):
    image = Image(np.zeros((1, 20, 20), np.uint8), Geometry.plain((20, 20)))
    write_case(tmp_path, "p", image, np.pad(np.ones((5, 5), np.uint8), (0, 15)), {1: 0}, suffix=".png")
    write_dataset(tmp_path, "x", 2, ["cell"], ["microscopy"])
    (tmp_path / "labelsTr" / "p.json").write_text(json.dumps({"instances": {"1": label}}))
    assert [row["objects"] for row in examine(tmp_path, workers=0).rows()] == [""]
