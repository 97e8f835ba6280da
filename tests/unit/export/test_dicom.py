"""DICOM SR and SEG: read back with pydicom and highdicom, on synthetic and on real series."""

import datetime
from dataclasses import replace

import numpy as np
import pytest

from boxel.export import Prediction, get_format
from boxel.io import read_image
from boxel.operating_points import OperatingPoint, OperatingPoints
from boxel.types import Detections
from unit.export.examples import CLASSES, predict, read, same, whole_voxels

hd = pytest.importorskip("highdicom", reason="the extra boxel[dicom] is not installed")
pydicom = pytest.importorskip("pydicom")

SHAPE = (6, 20, 24)
ORIENTATIONS = {
    "plain": (1, 0, 0, 0, 1, 0),
    "flipped": (-1, 0, 0, 0, -1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": (0.8, 0.6, 0, -0.36, 0.48, 0.8),
}


def write_series(folder, orientation, **changes):
    """A CT series of 6 slices; file names count against the positions."""
    folder.mkdir()
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    study, series, frame = (pydicom.uid.generate_uid(entropy_srcs=[str(orientation), kind]) for kind in "abc")
    for k in range(SHAPE[0]):
        ds = pydicom.Dataset()
        ds.SOPClassUID = pydicom.uid.CTImageStorage
        ds.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[series, str(k)])
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.Modality, ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "CT", "7", "A^B", "", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20250102", "101112", "1", "2"
        ds.ReferringPhysicianName, ds.SeriesNumber, ds.InstanceNumber = "", 3, k + 1
        ds.PositionReferenceIndicator = ""
        ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = list(orientation), [0.75, 1.5], 2.5
        ds.ImagePositionPatient = [round(float(x), 6) for x in np.array([-50.0, 20.0, 300.0]) + 2.5 * k * normal]
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *SHAPE[1:], 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = np.full(SHAPE[1:], k, np.int16).tobytes()
        for name, value in changes.items():
            setattr(ds, name, value)
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        ds.save_as(folder / f"{9 - k}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(params=ORIENTATIONS)
def series(request, tmp_path):
    return write_series(tmp_path / "series", ORIENTATIONS[request.param])


def on(series, make, **options):
    """Predictions on the image as Boxel reads it from the series."""
    prediction = make(read_image(series).geometry, **options)
    return Prediction(prediction.case, prediction.detections, prediction.classes, (series,))


def fitting(geometry):
    boxes = np.array([[[1, 2, 3], [2, 5, 9]], [[3, 10, 11], [5, 14, 20]]], np.float32)
    detections = Detections(boxes, np.array([0.25, 0.875], np.float32), np.array([1, 0]), geometry)
    return Prediction("case 1", detections, CLASSES)


def test_a_report_gives_boxes_scores_and_classes_back(tmp_path, series):
    prediction = on(series, predict)
    get_format("dicom-sr").write(tmp_path / "out", [prediction])
    with pytest.raises(ValueError, match="--images"):
        read("dicom-sr", tmp_path / "out")
    back = read("dicom-sr", tmp_path / "out", geometries={"case 1": prediction.geometry})
    same(back["case 1"], prediction.detections)


def test_a_segmentation_gives_boxes_of_whole_voxels_back(tmp_path, series):
    prediction = on(series, fitting)
    get_format("dicom-seg").write(tmp_path / "out", [prediction])
    back = read("dicom-seg", tmp_path / "out", geometries={"case 1": prediction.geometry})
    same(back["case 1"], prediction.detections)


def test_a_report_is_tid_1500_and_refers_to_the_series(tmp_path, series):
    prediction = on(series, fitting)
    [path] = get_format("dicom-sr").write(tmp_path / "out", [prediction])
    header, source = pydicom.dcmread(path), pydicom.dcmread(series / "9.dcm")
    assert header.SOPClassUID == pydicom.uid.Comprehensive3DSRStorage
    assert header.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (header.PatientID, header.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    evidence = header.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(evidence.ReferencedSOPSequence) == SHAPE[0]
    groups = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["benign", "malignant"]  # by falling score
    surface = groups[1].roi
    assert surface.frame_of_reference_uid == source.FrameOfReferenceUID
    # The malignant box starts on the lower face of slice 1: half a slice of 2.5 mm below its centre.
    normal = np.cross(source.ImageOrientationPatient[:3], source.ImageOrientationPatient[3:])
    heights = [face @ normal for face in surface.graphic_data]
    slices = sorted(pydicom.dcmread(file).ImagePositionPatient @ normal for file in series.iterdir())
    np.testing.assert_allclose(sorted(h.mean() for h in heights), [slices[1] - 1.25, slices[1] + 1.25], atol=1e-3)


def test_files_for_people_have_what_is_above_and_a_report_says_so(tmp_path):
    prediction = on(write_series(tmp_path / "series", ORIENTATIONS["plain"]), fitting)  # scores 0.25 and 0.875
    point = OperatingPoint(score=0.5, sensitivity=0.8, fp_per_image=1)
    points = OperatingPoints(applied=dict.fromkeys(CLASSES, point))
    given = [replace(prediction, operating_points=points, warnings=("unlike the training images",))]
    [report] = get_format("dicom-sr").writer_of_shown(tmp_path / "sr", given)
    content = hd.sr.srread(report).content
    assert [group.finding_type.meaning for group in content.get_volumetric_roi_measurement_groups()] == ["benign"]
    texts = [item.TextValue for item in content[0].ContentSequence if item.ValueType == "TEXT"]
    shown = (
        "detections from score 0.500 (sensitivity 0.80, 1 false positive per image), the threshold of the highest F1"
    )
    assert texts[-2:] == [f"Shown: {shown}.", "Warning: unlike the training images."]
    [segments] = get_format("dicom-seg").writer_of_shown(tmp_path / "seg", given)
    assert [segment.SegmentLabel for segment in hd.seg.segread(segments).SegmentSequence] == ["benign 1"]
    [table] = get_format("csv").writer_of_shown(tmp_path / "csv", given)
    assert len(table.read_text().splitlines()) == 3


def test_a_segmentation_refers_to_the_slices_that_it_covers(tmp_path, series):
    prediction = on(series, fitting)
    [path] = get_format("dicom-seg").write(tmp_path / "out", [prediction])
    seg = hd.seg.segread(path)
    assert seg.segmentation_type == hd.seg.SegmentationTypeValues.BINARY
    assert [d.SegmentLabel for d in seg.SegmentSequence] == ["benign 1", "malignant 2"]
    order = sorted(series.iterdir(), reverse=True)  # 9.dcm is the first position
    geometry = prediction.detections.geometry
    uids = [str(pydicom.dcmread(file).SOPInstanceUID) for file in order]
    planes = [geometry.to_voxel(np.array([pydicom.dcmread(file).ImagePositionPatient], float))[0, 0] for file in order]
    uids = [uids[i] for i in np.argsort(planes)]
    masks = seg.get_pixels_by_source_instance(uids, combine_segments=False, assert_missing_frames_are_empty=True)
    assert masks.shape == (*SHAPE, 2)
    expected = np.zeros((*SHAPE, 2), bool)
    expected[3:5, 10:14, 11:20, 0] = True
    expected[1:2, 2:5, 3:9, 1] = True
    np.testing.assert_array_equal(masks.astype(bool), expected)


def test_overlapping_detections_get_segmentations_of_their_own(tmp_path):
    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    boxes = np.array([[[0, 0, 0], [4, 9, 9]], [[2, 5, 5], [6, 12, 12]]], np.float32)
    detections = Detections(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, int), read_image(series).geometry)
    paths = get_format("dicom-seg").write(tmp_path / "out", [Prediction("c", detections, CLASSES, (series,))])
    assert [path.name for path in paths] == ["c_seg.dcm", "c_seg_2.dcm"]
    same(read("dicom-seg", tmp_path / "out", geometries={"c": detections.geometry})["c"], detections)


def test_a_case_without_detections_has_a_report_but_no_segmentation(tmp_path):
    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    prediction = on(series, predict, count=0)
    [path] = get_format("dicom-sr").write(tmp_path / "out", [prediction])
    assert pydicom.dcmread(path).Modality == "SR"
    assert len(read("dicom-sr", tmp_path / "out", geometries={"case 1": prediction.geometry})["case 1"]) == 0
    with pytest.warns(UserWarning, match="'case 1': no DICOM SEG"):
        assert get_format("dicom-seg").write(tmp_path / "out", [prediction]) == []


def test_the_same_export_has_the_same_uids(tmp_path):
    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    for name in ("dicom-sr", "dicom-seg"):
        uids = set()
        for out, score in (("a", 0.5), ("b", 0.5), ("c", 0.6)):
            prediction = on(series, fitting)
            prediction.detections.scores[0] = score
            [path] = get_format(name).write(tmp_path / out, [prediction])
            uids.add(pydicom.dcmread(path).SOPInstanceUID)
        assert len(uids) == 2


@pytest.mark.parametrize("name", ["dicom-sr", "dicom-seg"])
def test_a_missing_or_foreign_series_is_refused(tmp_path, name):
    write = get_format(name).write
    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    prediction = on(series, fitting)
    homeless = Prediction("c", prediction.detections, CLASSES)
    with pytest.raises(ValueError, match=r"case 'c': needs the DICOM series.*none is named.*--images"):
        write(tmp_path / "out", [homeless])
    (series / "9.dcm").unlink()
    with pytest.raises(ValueError, match="5 slices are not the 6 of case 'case 1'"):
        write(tmp_path / "out", [prediction])
    empty = write_series(tmp_path / "empty", ORIENTATIONS["plain"], SeriesInstanceUID="")
    with pytest.raises(ValueError, match=r"4.dcm: SeriesInstanceUID is empty"):
        write(tmp_path / "out", [Prediction("c", prediction.detections, CLASSES, (empty,))])
    assert not (tmp_path / "out").exists()


def test_without_the_libraries_the_error_says_how_to_install_them(tmp_path, monkeypatch):
    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    prediction = on(series, fitting)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'boxel\[dicom\]'"):
        get_format("dicom-sr").write(tmp_path, [prediction])


@pytest.mark.data
@pytest.mark.parametrize("image", ["dicom/dcmqi/segmentations/ct-3slice", "dicom/torchio_t1_series"])
def test_real_series_get_reports_and_segmentations(tmp_path, data, image):
    if not (data / image).is_dir():
        pytest.skip(f"{image} is not there")
    geometry = read_image(data / image).geometry
    lower = np.array([[0, 3, 5], [1, 60, 70]], np.float32)
    boxes = np.stack([lower, lower + np.array([2, 9, 11], np.float32)], 1)
    detections = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]), geometry)
    for name in ("dicom-sr", "dicom-seg"):
        get_format(name).write(tmp_path, [Prediction("c", detections, CLASSES, (data / image,))])
        same(read(name, tmp_path, geometries={"c": geometry})["c"], detections)


@pytest.mark.data
def test_an_anonymised_series_without_uids_is_refused_with_the_reason(tmp_path, data):
    series = data / "ct" / "ct_dicom_512" / "dicom"
    if not series.is_dir():
        pytest.skip("ct_dicom_512 is not there")
    with pytest.raises(ValueError, match=r"StudyInstanceUID, SeriesInstanceUID, .* is empty"):
        get_format("dicom-sr").write(tmp_path, [on(series, whole_voxels)])


def test_reports_carry_the_date_of_their_making(tmp_path):
    series = write_series(tmp_path / "series", ORIENTATIONS["plain"])
    [path] = get_format("dicom-sr").write(tmp_path / "out", [on(series, fitting)])
    assert pydicom.dcmread(path).ContentDate >= datetime.date.today().strftime("%Y%m%d")
