"""SEG, SR and RTSTRUCT of multi-frame files and of radiographs; highdicom and pydicom are the oracles."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.export import Prediction, get_format
from boxel.types import Detections
from unit.export.examples import CLASSES, read, same

hd = pytest.importorskip("highdicom", reason="the extra boxel[dicom] is not installed")
pydicom = pytest.importorskip("pydicom")

from unit.dicom_frames import write_frames, write_radiograph  # noqa: E402
from unit.export.dicom_examples import BOXES, SHAPE, SHUFFLED, predict, write_image  # noqa: E402

FORMATS = ("dicom-seg", "dicom-sr", "dicom-rtstruct")


@pytest.mark.parametrize("kind", ["series", "frames", "radiograph"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("by_folder", [True, False])
def test_what_is_written_is_read_back_as_predictions_and_as_annotations(tmp_path, kind, name, by_folder):
    path = write_image(kind, tmp_path / "study" / "image")
    path = path.parent if by_folder and path.is_file() else path
    prediction = predict(path)
    if (kind, name) == ("radiograph", "dicom-rtstruct"):
        with pytest.raises(ValueError, match="a 2D image has no position; write dicom-seg or dicom-sr"):
            get_format(name).write(tmp_path / "study" / "out", [prediction])
        return
    [written] = get_format(name).write(tmp_path / "study" / "out", [prediction])
    back = read(name, written.parent, geometries={"case 1": prediction.geometry})
    same(back["case 1"], prediction.detections)
    dataset = open_dataset(tmp_path / "study")
    [case] = dataset.cases
    loaded = read_case(case, dataset)
    assert dataset.ndim == len(prediction.geometry.shape)
    objects, expected = (
        {(names[label], *box.ravel().round(3).tolist()) for label, box in zip(these.labels, these.boxes, strict=True)}
        for names, these in ((dataset.classes, loaded.instances), (CLASSES, prediction.detections))
    )
    assert objects == expected


def test_a_segmentation_names_the_frames_that_it_covers(tmp_path):
    path = write_image("frames", tmp_path)
    [written] = get_format("dicom-seg").write(tmp_path / "out", [predict(path)])
    seg, source = hd.seg.segread(written), pydicom.dcmread(path)
    frames = [SHUFFLED.index(plane) + 1 for plane in range(6)]  # of the source, by position
    masks = seg.get_pixels_by_source_frame(
        source.SOPInstanceUID, frames, combine_segments=False, assert_missing_frames_are_empty=True
    )
    expected = np.zeros((*SHAPE, 2), bool)
    expected[3:5, 10:14, 11:20, 0] = True
    expected[1:2, 2:5, 3:9, 1] = True
    np.testing.assert_array_equal(masks.astype(bool), expected)


def test_a_segmentation_of_a_radiograph_refers_to_it(tmp_path):
    path = write_image("radiograph", tmp_path)
    [written] = get_format("dicom-seg").write(tmp_path / "out", [predict(path)])
    masks = hd.seg.segread(written).get_pixels_by_source_instance([pydicom.dcmread(path).SOPInstanceUID])
    expected = np.zeros((1, *SHAPE[1:], 2), bool)
    expected[0, 10:14, 11:20, 0] = expected[0, 2:5, 3:9, 1] = True
    np.testing.assert_array_equal(masks.astype(bool), expected)


def test_a_report_of_a_radiograph_is_drawn_in_its_pixels(tmp_path):
    path = write_image("radiograph", tmp_path)
    [written] = get_format("dicom-sr").write(tmp_path / "out", [predict(path)])
    groups = hd.sr.srread(written).content.get_planar_roi_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["benign", "malignant"]  # by falling score
    corners = np.asarray(groups[0].roi.value)
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([11, 10], [20, 14])  # column, row
    [image] = groups[0].roi.ContentSequence
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID


@pytest.mark.parametrize("kind", ["series", "frames"])
def test_a_structure_set_refers_to_the_plane_of_each_outline(tmp_path, kind):
    path = write_image(kind, tmp_path / "image")
    [written] = get_format("dicom-rtstruct").write(tmp_path / "out", [predict(path)])
    data = pydicom.dcmread(written)
    positions = {}
    for file in path.iterdir() if path.is_dir() else [path]:
        header = pydicom.dcmread(file)
        groups = header.get("PerFrameFunctionalGroupsSequence")
        for frame, place in enumerate(groups or [None], start=1):
            at = place.PlanePositionSequence[0] if place else header
            positions[header.SOPInstanceUID, frame if place else None] = at.ImagePositionPatient[2]
    heights = set()
    for drawn in data.ROIContourSequence:
        for contour in drawn.ContourSequence:
            [image] = contour.ContourImageSequence
            height = positions[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
            assert set(contour.ContourData[2::3]) == {height}
            heights.add(float(height))
    assert heights == {-97.5, -92.5, -90.0}


def test_a_ring_keeps_its_hole_and_pieces_that_touch_at_a_corner(tmp_path):
    from boxel.datasets.polygons import fill_polygon
    from boxel.export.formats.dicom_rtstruct import outlines

    rng = np.random.default_rng(0)
    ring = np.ones((7, 9), bool)
    ring[2:5, 3:6] = False
    ring[3, 4] = True
    for mask in (ring, *(rng.random((9, 11)) < 0.5 for _ in range(50))):
        filled = np.zeros(mask.shape, bool)
        for points in outlines(mask):
            filled ^= fill_polygon(points.astype(float), mask.shape)
        np.testing.assert_array_equal(filled, mask)


def test_one_stack_of_a_file_is_segmented_on_its_own_frames(tmp_path):
    from boxel.io import read_series

    path = write_image("stack", tmp_path)
    image = read_series(tmp_path, frames=["StackID=2"])
    detections = Detections(BOXES[:1], np.array([0.5], np.float32), np.array([0]), image.geometry)
    [written] = get_format("dicom-seg").write(tmp_path / "out", [Prediction("c", detections, CLASSES, (path,))])
    [frame] = hd.seg.segread(written).PerFrameFunctionalGroupsSequence
    [source] = frame.DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedFrameNumber == SHUFFLED.index(3 + 1) + 1  # plane 1 of the second stack


def test_a_file_of_another_size_is_refused(tmp_path, ndim):
    path = write_image("frames" if ndim == 3 else "radiograph", tmp_path / "a")
    stored = np.zeros((6, 30, 40), int)
    other = (
        write_frames(tmp_path / "b" / "x.dcm", stored) if ndim == 3 else write_radiograph(tmp_path / "x.dcm", stored[0])
    )
    prediction = predict(path)
    moved = Prediction("c", prediction.detections, CLASSES, (other,))
    with pytest.raises(ValueError, match=r"not the \d of case 'c'"):
        get_format("dicom-seg").write(tmp_path / "out", [moved])
