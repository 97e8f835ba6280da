"""Corrupted versions of each real data set: a clean error or a finding, no traceback, no hang, no memory blow-up."""

import gzip
import re
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.quality.check import examine
from boxel.io import read_image, read_label_map, write_image, write_label_map
from boxel.types import Geometry, Image

from .test_corruption import DAMAGE

ABDOMEN = "ct/ct_abdomen_3mm_small"

# A few files of each set, as lie in its folder: (set, files, options).
PARTS = {
    "blood_cells": ("blood_cells/BCCD", ["Annotations/BloodImage_0000[0-2].xml", "JPEGImages/BloodImage_0000[0-2].jpg",
                    "ImageSets/Main/*.txt"], []),
    "ct": ("ct", [f"{ABDOMEN[3:]}/*", "class_names.json"], []),
    "ct_dicom": ("ct/ct_dicom_512", ["dicom/*0000165*.dcm"], ["negatives=true"]),
    "deeplesion": ("deeplesion", ["DL_info_raghav*.csv", "Images_png/00264*/*.png"], []),
    "jpg8bit": ("deeplesion/jpg8bit", ["00000*.jpg", "00000*.tru"], []),
    "dicom": ("dicom/dcmqi/segmentations", ["ct-3slice/*", "liver.dcm"], []),
    "hippocampus": ("hippocampus", ["imagesTr/hippocampus_00[1-7].nii.gz", "labelsTr/hippocampus_00[1-7].nii.gz"], []),
    "lidc_luna_tables": ("lidc_luna_tables/luna16", ["annotations.csv", "seriesuids.csv"], []),
    "lidc_nodules": ("lidc_nodules", ["image/LIDC-IDRI-000[1-3]_R_*.gz", "nodule_mask/LIDC-IDRI-000[1-3]_R_*.gz",
                     "meta.csv"], ["class_column=Diagnosis_value", "modality=CT"]),
    "nuclei": ("nuclei", ["images/0[0-3]*.png", "labels/0[0-3]*.png", "meta.csv"], []),
    "nuclei3d": ("nuclei3d", ["stardist/*3d.tif"], []),
}  # fmt: skip
SECONDS = 20  # for one look; it takes less than one


@pytest.fixture(scope="module")
def parts(data, tmp_path_factory):
    """The chosen files of each set, writable."""
    root = tmp_path_factory.mktemp("parts")
    for name, (folder, patterns, _) in PARTS.items():
        for pattern in patterns:
            found = (
                sorted((data / folder).glob(pattern))[:3]
                if "*" in pattern or "[" in pattern
                else [data / folder / pattern]
            )
            assert found, (name, pattern)
            for file in found:
                target = root / name / file.relative_to(data / folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    return root


def messages(root: Path, name: str) -> list[str]:
    """The messages that a user sees; an exception other than ValueError fails the test, as does a hang."""
    start = time.monotonic()
    try:
        return [str(finding) for finding in examine(root, options=PARTS[name][2], workers=0).findings]
    except ValueError as error:
        return [str(error)]
    finally:
        assert time.monotonic() - start < SECONDS


@pytest.mark.data
@pytest.mark.parametrize("damage", ["cut", "random", "flipped bits", "zeros", "empty"])
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_of_real_files_are_reported_with_a_message(parts, name, damage, rng):
    root = parts / name
    before = messages(root, name)
    assert not [message for message in before if message.startswith("error")], before
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for file in files[:: max(1, len(files) // 6)]:
        content = file.read_bytes()
        file.write_bytes(DAMAGE[damage](content, rng))
        try:
            after = messages(root, name)
        finally:
            file.write_bytes(content)
        assert all(after)
        if damage in ("cut", "random") and file.suffix in (".gz", ".png", ".tif", ".xml"):
            assert after != before, f"{file} is damaged and nobody noticed"


VOLUMES = {  # image, label map, and what the label map is to the set
    "ct": ("ct_abdomen_3mm_small/ct.nii.gz", "ct_abdomen_3mm_small/seg.nii.gz"),
    "hippocampus": ("imagesTr/hippocampus_001.nii.gz", "labelsTr/hippocampus_001.nii.gz"),
    "lidc_nodules": ("image/LIDC-IDRI-0001_R_1.nii.gz", "nodule_mask/LIDC-IDRI-0001_R_1.nii.gz"),
    "nuclei": ("images/*.png", "labels/*.png"),
    "nuclei3d": ("stardist/img3d.tif", "stardist/mask3d.tif"),
}


def changed(path: Path, change) -> None:
    """Rewrite a label map (or image) as `change` of its array."""
    found = read_label_map(path)
    array = change(found.array)
    grid = Geometry(array.shape, found.geometry.spacing, found.geometry.origin, found.geometry.direction)
    if array.dtype.kind == "f":
        write_image(path, Image(array[None].astype(np.float32), grid))
    else:
        write_label_map(path, np.ascontiguousarray(array), grid)


def swapped(root: Path, image: Path, labels: Path) -> None:
    def swap(array):
        pairs = [(a, b) for a in range(array.ndim) for b in range(a) if array.shape[a] != array.shape[b]]
        return np.swapaxes(array, *pairs[0]) if pairs else np.flip(array, 0)

    changed(labels, swap)


def wrong_type(root: Path, image: Path, labels: Path) -> None:
    if labels.suffix == ".png":
        Picture.fromarray(np.stack([read_label_map(labels).array.astype(np.uint8)] * 3, axis=-1)).save(labels)
    else:
        changed(labels, lambda array: array * 0.5)


def huge(root: Path, image: Path, labels: Path) -> None:
    """The header claims what no disk holds; the rest stays."""
    content = image.read_bytes()
    if image.suffix == ".gz":
        head = bytearray(gzip.decompress(content))
        head[42:48] = struct.pack(("<" if head[0] == 92 else ">") + "3h", 30_000, 30_000, 30_000)
        image.write_bytes(gzip.compress(bytes(head)))
    elif image.suffix == ".png":
        head = bytearray(content)
        head[16:24] = struct.pack(">2I", 2**31 - 1, 2**31 - 1)
        head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
        image.write_bytes(bytes(head))
    else:
        head, shape = bytearray(content), read_image(image).array.shape[-2:]
        for tag, size in zip((257, 256), shape, strict=True):  # ImageLength, ImageWidth
            for kind, code in ((3, "H"), (4, "I")):
                entry = struct.pack("<HHI" + code, tag, kind, 1, size)
                for match in re.finditer(re.escape(entry), bytes(head)):
                    head[match.end() - struct.calcsize(code) : match.end()] = struct.pack("<" + code, 60_000)
        image.write_bytes(bytes(head))


@pytest.mark.data
@pytest.mark.parametrize("spoil", [swapped, wrong_type, huge])
@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.filterwarnings("ignore")
def test_swapped_axes_wrong_types_and_huge_headers_of_real_volumes_are_found(parts, name, spoil, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(parts / name, root)
    image, labels = (sorted(root.glob(pattern))[0] for pattern in VOLUMES[name])
    before = messages(root, name)
    spoil(root, image, labels)
    new = [message for message in messages(root, name) if message not in before]
    reported = [message for message in new if image.name in message or labels.name in message]
    assert reported, new
    if name != "lidc_nodules":  # centred nodules are the same when reversed; if it shows, it is reported
        words = {swapped: "swapped|reversed", wrong_type: "whole numbers|channels", huge: "cut short|exceeds|damaged"}
        assert any(re.search(words[spoil], message) for message in reported), reported


@pytest.mark.data
def test_shuffled_file_names_of_a_real_series_change_nothing_and_a_moved_slice_is_found(parts, tmp_path, rng):
    pydicom = pytest.importorskip("pydicom")
    root = tmp_path / "series"
    shutil.copytree(parts / "dicom" / "ct-3slice", root)
    before = read_image(root)
    files = sorted(root.iterdir())
    names = rng.permutation([f"{number:02d}.dcm" for number in range(len(files))])
    for file, name in zip(files, names, strict=True):
        data = pydicom.dcmread(file)
        data.InstanceNumber = int(rng.integers(1000))  # numbers lie too
        file.unlink()
        data.save_as(root / f"x{name}")
    after = read_image(root)
    np.testing.assert_array_equal(after.array, before.array)
    assert after.geometry == before.geometry
    data = pydicom.dcmread(next(root.iterdir()))
    x, y, z = data.ImagePositionPatient
    data.ImagePositionPatient = [x, y, z + 0.3]
    data.save_as(next(root.iterdir()))
    with pytest.raises(ValueError, match=r"slices lie .* mm apart|gaps between slices"):
        read_image(root)


@pytest.mark.data
def test_a_real_jpeg_2000_slice_that_is_cut_is_named_and_not_taken_for_a_missing_one(parts, tmp_path):
    """The library behind would take two gigabytes to look for its end, and the series would go on without it."""
    root = tmp_path / "series"
    shutil.copytree(parts / "ct_dicom" / "dicom", root)
    middle = sorted(root.iterdir())[1]
    middle.write_bytes(middle.read_bytes()[:90_000])
    with pytest.raises(ValueError, match=rf"{middle.name}: this DICOM image is damaged"):
        read_image(root)


@pytest.mark.data
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("Train_Val_Test", "Part"), "no column Train_Val_Test"),
        (lambda text: re.sub(r'"[\d.]+, [\d.]+, [\d.]+, [\d.]+",', '"1, 2, nan, 4",', text), "finite numbers"),
        (lambda text: re.sub(r'("[\d.]+), [\d.]+, ([\d.]+, [\d.]+",)', r"\1, \2", text), "4 finite numbers"),
        (
            lambda text: re.sub(r'"[\d.]+, [\d.]+, [\d.]+, [\d.]+",', '"1241, 2415, 1461, 2684",', text),
            "outside the image",
        ),
    ],
    ids=["column", "nan", "three numbers", "elsewhere"],
)
def test_a_damaged_table_of_deeplesion_is_explained(parts, tmp_path, change, words):
    root = tmp_path / "set"
    shutil.copytree(parts / "deeplesion", root)
    (table,) = root.glob("*.csv")
    table.write_text(change(table.read_text()))
    assert any(words in message for message in messages(root, "deeplesion")), messages(root, "deeplesion")


@pytest.mark.data
def test_8_bit_pictures_instead_of_deeplesions_16_are_an_error(parts, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(parts / "deeplesion", root)
    image = next(root.rglob("*.png"))
    Picture.fromarray((read_image(image).array[0] >> 8).astype(np.uint8)).save(image)
    assert any("has 8 bits" in message for message in messages(root, "deeplesion"))
