"""Label maps of `boxel predict --segmentation` in the formats that hold them; highdicom and pillow are the oracles."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import boxel
from boxel.export import DatasetInfo, get_format
from boxel.export.boxel_json import read_prediction, write_detections
from boxel.io import read_image, read_label_map, write_image, write_label_map
from boxel.types import Detections, Image
from unit.export.examples import CLASSES, grid, whole_voxels

NAMED = ("benign", "liver", "malignant")


def predicted(folder, image_file, geometry, *, names=NAMED, values=(1, 3), detections=None, case="case 1"):
    """What `boxel predict --segmentation` writes: boxes that are none of the label map, and the label map."""
    labels = np.zeros(geometry.shape, np.uint8)
    rows, columns = np.ogrid[: geometry.shape[-2], : geometry.shape[-1]]
    for place, value in enumerate(values, start=1):
        disc = (rows - 8 * place) ** 2 + (columns - 9 * place) ** 2 < 12
        labels[(1, ...) if labels.ndim == 3 else ...][disc] = value
    path = folder / f"{case}.json"
    extra = {"segmentation": {
        "file": f"{case}_seg.nii.gz",
        "values": {str(value): name for value, name in enumerate(("background", *names))},
    }}  # fmt: skip
    detections = whole_voxels(geometry).detections if detections is None else detections
    write_detections(path, detections, case, CLASSES, image_files=[image_file], extra=extra)
    write_label_map(folder / f"{case}_seg.nii.gz", labels, geometry)
    return path, labels


@pytest.fixture
def image(tmp_path, ndim):
    geometry = grid(ndim, "oblique")
    write_image(tmp_path / "image.nii.gz", Image(np.zeros((1, *geometry.shape), np.float32), geometry))
    return tmp_path / "image.nii.gz"


def segments(file):
    """The voxels of each segment, in world positions rounded to hundredths of a mm, by its label."""
    hd = pytest.importorskip("highdicom")
    seg = hd.seg.segread(file)
    volume = seg.get_volume(combine_segments=False)
    masks = volume.array.astype(bool)
    found = {}
    for k, segment in enumerate(seg.SegmentSequence):
        points = volume.map_indices_to_reference(np.argwhere(masks[..., k]))
        found[segment.SegmentLabel] = {tuple(point) for point in points.round(2).tolist()}
    return seg, found


@pytest.mark.parametrize("orientation", ["plain", "flipped", "sagittal", "oblique"])
def test_a_dicom_segmentation_has_the_voxels_of_each_class(tmp_path, orientation):
    pytest.importorskip("highdicom")
    from unit.export.test_dicom import ORIENTATIONS, write_series

    series = write_series(tmp_path / "series", ORIENTATIONS[orientation])
    geometry = read_image(series).geometry  # spacing 2.5, 0.75, 1.5
    path, labels = predicted(tmp_path / "predictions", series, geometry)
    [written] = get_format("dicom-seg").write(tmp_path / "out", [read_prediction(path)])
    seg, found = segments(written)
    assert written.name == "case 1_seg.dcm"
    assert (seg.SeriesDescription, seg.SegmentationType) == ("Boxel segmentation", "BINARY")
    assert [segment.SegmentNumber for segment in seg.SegmentSequence] == [1, 2]
    assert all("SegmentDescription" not in segment for segment in seg.SegmentSequence)
    expected = {
        NAMED[value - 1]: {tuple(p) for p in geometry.to_world(np.argwhere(labels == value) + 0.5).round(2).tolist()}
        for value in (1, 3)
    }
    assert {name: len(voxels) for name, voxels in expected.items()} == {"benign": 37, "malignant": 37}
    assert found == expected
    with pytest.raises(ValueError, match=r"case 1_seg\.dcm: segments without a score.*are no detections"):
        get_format("dicom-seg").reader(tmp_path / "out", DatasetInfo(CLASSES, {"case 1": geometry}))


def test_one_foreground_is_named_so_and_other_detections_do_not_matter(tmp_path):
    pytest.importorskip("highdicom")
    from unit.export.test_dicom import ORIENTATIONS, write_series

    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    geometry = read_image(series).geometry
    options = {"names": ("foreground",), "values": (1, 1), "detections": Detections.empty(3, geometry)}
    path, labels = predicted(tmp_path / "predictions", series, geometry, **options)
    [written] = get_format("dicom-seg").write(tmp_path / "out", [read_prediction(path)])
    _, found = segments(written)
    assert {name: len(voxels) for name, voxels in found.items()} == {"foreground": int(labels.sum())}


def test_a_segmentation_of_a_radiograph_and_of_frames_is_in_their_order(tmp_path):
    hd = pytest.importorskip("highdicom")
    import pydicom

    from unit.export.test_dicom_frames import SHUFFLED
    from unit.export.test_dicom_frames import write_image as write_dicom

    for kind in ("radiograph", "frames"):
        file = write_dicom(kind, tmp_path / kind)
        path, labels = predicted(tmp_path / f"predicted {kind}", file, read_image(file).geometry)
        [written] = get_format("dicom-seg").write(tmp_path / "out", [read_prediction(path)])
        seg, uid = hd.seg.segread(written), pydicom.dcmread(file).SOPInstanceUID
        if kind == "radiograph":
            masks = seg.get_pixels_by_source_instance([uid])
        else:
            frames = [SHUFFLED.index(plane) + 1 for plane in range(6)]
            masks = seg.get_pixels_by_source_frame(uid, frames, assert_missing_frames_are_empty=True)
        np.testing.assert_array_equal(masks, np.stack([labels == 1, labels == 3], -1).reshape(masks.shape))


def test_an_empty_segmentation_is_left_out_with_a_warning(tmp_path):
    pytest.importorskip("highdicom")
    from unit.export.test_dicom import ORIENTATIONS, write_series

    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    path, _ = predicted(tmp_path / "predictions", series, read_image(series).geometry, values=())
    with pytest.warns(UserWarning, match="'case 1': no DICOM SEG is written, which needs at least one segmented voxel"):
        assert get_format("dicom-seg").write(tmp_path / "out", [read_prediction(path)]) == []


def test_nifti_has_an_equal_label_map_beside_the_boxes(tmp_path, image, ndim):
    path, labels = predicted(tmp_path / "predictions", image, grid(ndim, "oblique"))
    written = boxel.convert(path.parent, tmp_path / "out", "nifti")
    assert {file.name for file in written} == {"case 1_boxes.json", "case 1_boxes.nii.gz", "case 1_seg.nii.gz"}
    copied, original = (read_label_map(folder / "case 1_seg.nii.gz") for folder in (tmp_path / "out", path.parent))
    np.testing.assert_array_equal(copied.array, labels)
    assert copied.geometry == original.geometry
    painted = read_label_map(tmp_path / "out" / "case 1_boxes.nii.gz").array
    assert set(np.unique(painted)) == {0, 1, 2}


@pytest.mark.parametrize("count", [0, 2])
def test_the_preview_outlines_each_class(tmp_path, image, ndim, count):
    from PIL import Image as Picture

    geometry = grid(ndim, "oblique")
    detections = whole_voxels(geometry).detections[:count]
    path, _ = predicted(tmp_path / "predictions", image, geometry, values=(1, 2), detections=detections)
    whole = read_prediction(path)
    without = replace(whole, label_map=None, label_names=())
    pictures = []
    for name, prediction in (("with", whole), ("without", without)):
        [written] = get_format("preview").write(tmp_path / name, [prediction])
        with Picture.open(written) as picture:
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
    assert pictures[0].shape == pictures[1].shape
    if not count:  # the whole plane shows both classes
        for colour in ([0x56, 0xB4, 0xE9], [0xF0, 0xB0, 0]):
            drawn = [(np.abs(picture - colour).max(-1) < 5).sum() for picture in pictures]
            assert drawn[0] > drawn[1] == 0
    assert (pictures[0] != pictures[1]).any()


def test_converting_the_folder_later_gives_the_same_files(tmp_path, image, ndim):
    path, _ = predicted(tmp_path / "predictions", image, grid(ndim, "oblique"))
    for name in ("nifti", "preview"):
        direct = get_format(name).write(tmp_path / f"{name} direct", [read_prediction(path)])
        later = boxel.convert(path.parent, tmp_path / f"{name} later", name, min_score=0.1)
        assert [file.name for file in later] == [file.name for file in direct]
        assert [file.read_bytes() for file in later] == [file.read_bytes() for file in direct]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda file, geometry: file.unlink(), r"case 1_seg\.nii\.gz: no such file"),
        (
            lambda file, geometry: write_label_map(file, np.zeros([3] * len(geometry.shape)), grid_like(geometry)),
            r"case 1_seg\.nii\.gz: this label map has shape .*but case 'case 1' was predicted on",
        ),
        (
            lambda file, geometry: write_label_map(file, np.full(geometry.shape, 4), geometry),
            r"case 1_seg\.nii\.gz: value 4 in a label map of benign, liver, malignant",
        ),
    ],
)
def test_a_label_map_that_does_not_fit_is_an_error_and_not_a_picture_of_boxes(tmp_path, image, ndim, change, says):
    geometry = grid(ndim, "oblique")
    path, _ = predicted(tmp_path / "predictions", image, geometry)
    change(path.with_name("case 1_seg.nii.gz"), geometry)
    for name in ("nifti", "preview"):
        with pytest.raises(ValueError, match=says):
            boxel.convert(path.parent, tmp_path / name, name)
    assert boxel.convert(path.parent, tmp_path / "csv", "csv")  # needs none


def grid_like(geometry):
    return replace(geometry, shape=(3,) * len(geometry.shape))


@pytest.mark.parametrize("wrong", [{"file": "a"}, {"file": "../..", "values": {"one": "a"}}, "a", {"values": {}}])
def test_a_damaged_entry_of_the_segmentation_names_the_file(tmp_path, image, ndim, wrong):
    path, _ = predicted(tmp_path / "predictions", image, grid(ndim, "plain"))
    record = json.loads(Path(path).read_text())
    record["extra"]["segmentation"] = wrong
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"case 1\.json: extra\.segmentation must be"):
        read_prediction(path)
