"""A damaged file leads to a message or a finding, never to a traceback or a hang, with every reader."""

import gzip
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest

from boxel.datasets.formats import formats, open_dataset
from boxel.datasets.quality.check import examine
from boxel.io import write_image, write_label_map
from boxel.types import Geometry, Image
from unit.odd_values import ODD, places, put

from .test_pictures import write_coco, write_kaggle, write_voc, write_yolo
from .test_tables import write_deeplesion, write_luna, write_volume


def write_nnunet(root, rng):
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    grid = Geometry.plain(labels.shape)
    for case in "ab":
        write_image(root / "imagesTr" / f"{case}_0000.nii.gz", Image(rng.normal(size=(1, *labels.shape)), grid))
        write_label_map(root / "labelsTr" / f"{case}.nii.gz", labels, grid)
    head = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(head))
    (root / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))


def write_monai(root, rng):
    write_volume(root / "a.nii.gz", rng)
    entry = {"image": "a.nii.gz", "box": [[97.5, -41, 30, 5, 10, 20]], "label": [0]}
    (root / "list.json").write_text(json.dumps({"training": [entry]}))


def write_pairs(root, rng):
    picture = Image(np.arange(80, dtype=np.uint8).reshape(1, 8, 10), Geometry.plain((8, 10)))
    for name in ("images/a.png", "labels/a.png"):
        write_image(root / name, picture)
    (root / "meta.csv").write_text("file,patient_id\na.png,p\n")
    (root / "class_names.json").write_text('{"1": "liver"}')


def write_dicom(root, rng):
    samples = _dicom_samples()
    files = samples.write_series(root / "ct", samples.volume(rng))
    samples.write_structures(root / "rs.dcm", {"GTV": [(2, [(4.5, 5.5), (14.5, 5.5), (14.5, 15.5), (4.5, 15.5)])]})
    mask = np.zeros(samples.SHAPE, bool)
    mask[1:3, 3:9, 3:9] = True
    samples.write_segmentation(root / "seg.dcm", sorted(files), {"liver": mask})


def write_lidc(root, rng):
    samples = _dicom_samples()
    samples.write_series(root / "ct", samples.volume(rng))
    samples.write_lidc(root / "a.xml", [[("1", 4, {2: samples.ring(5, 5, 8)})]])


def _dicom_samples():
    from . import dicom_samples

    return dicom_samples


WRITERS = {
    "nnunet": write_nnunet,
    "voc": write_voc,
    "coco": write_coco,
    "yolo": lambda root, rng: write_yolo(root, rng, "0 0.5 0.5 0.2 0.2"),
    "kaggle_dsb2018": write_kaggle,
    "table": write_luna,
    "monai": write_monai,
    "deeplesion": write_deeplesion,
    "pairs": write_pairs,
    "dicom": write_dicom,
    "lidc": write_lidc,
}


def text_with(old: bytes, new: bytes):
    return lambda content, rng: content.replace(old, new)


def flipped(content, rng):
    damaged = bytearray(content)
    for index in rng.integers(0, len(damaged), max(1, len(damaged) // 50)) if damaged else ():
        damaged[index] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


DAMAGE = {
    "empty": lambda content, rng: b"",
    "cut": lambda content, rng: content[: len(content) // 2],
    "cut at the start": lambda content, rng: content[: min(len(content), 100)],
    "random": lambda content, rng: rng.bytes(max(64, len(content) // 4)),
    "flipped bits": flipped,
    "zeros": lambda content, rng: bytes(len(content)),
    "other brackets": text_with(b"[", b"{"),
    "words for numbers": text_with(b"0", b"NaN"),
    "nothing in lists": text_with(b"[[", b"[null, ["),
    "deep": lambda content, rng: b"[" * 100_000,
}


def messages(root, name):
    """The messages that a user sees: the findings, or why there are none."""
    try:
        return [str(finding) for finding in examine(root, format=name, workers=0).findings]
    except ValueError as error:
        return [str(error)]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_reported_with_a_message(name, damage, rng):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        WRITERS[name](root, rng)
        before = messages(root, name)
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            content = file.read_bytes()
            file.write_bytes(DAMAGE[damage](content, rng))
            after = messages(root, name)
            assert all(after)
            unused = file.name == "008.png" or "000003" in str(file)
            slices = damage in ("empty", "zeros") and file.suffix == ".dcm"
            if (damage == "random" or slices) and not unused:
                assert after != before, f"{file} is random bytes and nobody noticed"
            file.write_bytes(content)


def test_a_header_that_promises_terabytes_is_refused(tmp_path, rng):
    write_nnunet(tmp_path, rng)
    file = tmp_path / "imagesTr" / "a_0000.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[42:48] = struct.pack("<3h", 30_000, 30_000, 30_000)  # dim[1..3] of NIfTI-1
    file.write_bytes(gzip.compress(bytes(content)))
    assert any("a_0000.nii.gz" in message and "cut short" in message for message in messages(tmp_path, "nnunet"))


@pytest.mark.parametrize(
    "head", ["[]", "3", '{"labels": 3}', '{"labels": {"background": 0}}', '{"labels": {"a": [1, 2]}}']
)
def test_an_odd_head_is_explained(tmp_path, rng, head):
    write_nnunet(tmp_path, rng)
    (tmp_path / "dataset.json").write_text(head)
    with pytest.raises(ValueError, match=r"dataset\.json"):
        open_dataset(tmp_path, format="nnunet")


@pytest.mark.parametrize("name", formats())
def test_a_folder_of_another_layout_is_refused_or_found_empty(name, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("nothing to see")
    assert any(str(tmp_path) in message for message in messages(tmp_path, name))


def write_rich_coco(root, rng):
    """Every kind of object that the format has."""
    picture = Image(np.arange(80, dtype=np.uint8).reshape(1, 8, 10), Geometry.plain((8, 10)))
    write_image(root / "a.png", picture)
    kinds = [{"bbox": [1, 1, 3, 3]}, {"segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]},
             {"segmentation": {"counts": [10, 5, 65], "size": [8, 10]}, "iscrowd": 1}]  # fmt: skip
    objects = [{"id": n, "image_id": 1, "category_id": 1, **kind} for n, kind in enumerate(kinds)]
    value = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "c"}],
    }
    (root / "annotations.json").write_text(json.dumps(value))


def write_rich_native(root, rng):
    write_nnunet(root, rng)
    (root / "splits_final.json").rename(root / "splits.json")
    head = {"name": "x", "dim": 3, "labels": {"0": "n"}, "modalities": {"0": "CT"}, "groups": {"a": "p"}}
    (root / "dataset.json").write_text(json.dumps(head))
    content = {
        "instances": {"1": 0},
        "boxes": [{"id": 2, "label": 0, "lower": [1, 1, 1], "upper": [3, 3, 3]}],
        "shapes": [{"id": 3, "label": 0, "points": [[3, 3, 3]], "diameter": 2, "frame": "voxel", "ignore": False}],
        "attributes": {"1": {"diameter_mm": 1}},
    }
    for case in "ab":
        (root / "labelsTr" / f"{case}.json").write_text(json.dumps(content))


TREES = {"coco": write_rich_coco, "native": write_rich_native, "nnunet": write_nnunet, "monai": write_monai}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.filterwarnings("ignore")
def test_odd_values_anywhere_in_a_json_are_reported_with_a_message(name, rng, tmp_path):
    TREES[name](tmp_path, rng)
    for file in [path for path in sorted(tmp_path.rglob("*.json")) if path.name != "b.json"]:
        text = file.read_text()
        for place in places(json.loads(text)):
            for value in ODD:
                file.write_text(json.dumps(put(json.loads(text), place, value)))
                assert all(len(message) > 20 for message in messages(tmp_path, name)), (place, value)
        file.write_text(text)
