"""Multi-frame DICOM and single images without position; highdicom and pydicom are the oracles."""

import numpy as np
import pytest

from boxel.io import read_image, read_layout, read_series, write_image

pydicom = pytest.importorskip("pydicom")

from pydicom import uid as uids  # noqa: E402

from unit.datasets.dicom_samples import write_series  # noqa: E402
from unit.dicom_frames import FIRST, SPACING, write_frames, write_radiograph  # noqa: E402

SHAPE = (6, 32, 40)
SHUFFLED = (3, 0, 5, 1, 4, 2)
OBLIQUE = ((np.cos(0.3), np.sin(0.3), 0.0), (0.0, 0.0, -1.0))
KINDS = {
    "enhanced CT": uids.EnhancedCTImageStorage,
    "enhanced MR": uids.EnhancedMRImageStorage,
    "legacy converted": uids.LegacyConvertedEnhancedCTImageStorage,
    "secondary capture": uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    "tomosynthesis": uids.BreastTomosynthesisImageStorage,
}


@pytest.fixture
def stored(rng):
    return rng.integers(0, 4096, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("storage", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("axes", [((1, 0, 0), (0, 1, 0)), OBLIQUE], ids=["axial", "oblique"])
def test_frames_in_any_order_lie_where_their_functional_groups_say(tmp_path, stored, storage, axes):
    path = write_frames(tmp_path / "s" / "x.dcm", stored, order=SHUFFLED, axes=axes, storage=storage)
    for source in (path, path.parent):
        image = read_image(source)
        np.testing.assert_array_equal(image.array[0], stored.astype(np.float32) - 1024)
        assert image.array.dtype == np.float32
        np.testing.assert_allclose(image.geometry.spacing, SPACING)  # SliceThickness says 5
        np.testing.assert_allclose(image.geometry.origin, FIRST)
        expected = np.stack([np.cross(*axes), axes[1], axes[0]], axis=1)
        np.testing.assert_allclose(image.geometry.direction, expected, atol=1e-6)
        assert read_layout(source) == (1, SHAPE)


@pytest.mark.parametrize("changes", [
    {"slopes": [1, 1.5, 2, 2.5, 3, 3.5], "intercept": 7.0},
    {"PhotometricInterpretation": "MONOCHROME1"},
    {"step": (0, 0, -2.5)},
], ids=["slopes", "MONOCHROME1", "reversed"])  # fmt: skip
def test_highdicom_reads_the_same_volume(tmp_path, stored, changes):
    hd = pytest.importorskip("highdicom")
    path = write_frames(tmp_path / "x.dcm", stored, order=SHUFFLED, **changes)
    image, volume = read_image(path), hd.imread(path).get_volume()
    corners = np.array([[0.5, 0.5, 0.5], np.array(SHAPE) - 0.5])
    places = image.geometry.to_world(corners)
    indices = np.rint(volume.map_reference_to_indices(places)).astype(int)
    assert set(indices[:, 0].tolist()) == {0, SHAPE[0] - 1}
    other = volume.array if indices[0, 0] == 0 else volume.array[::-1]  # highdicom may count from the other end
    np.testing.assert_allclose(image.array[0], other)


def test_every_frame_has_its_own_slope(tmp_path, stored):
    slopes = [1 + 0.5 * k for k in range(6)]
    path = write_frames(tmp_path / "x.dcm", stored, order=SHUFFLED, slopes=slopes, intercept=-3.0)
    expected = stored * np.array(slopes)[:, None, None] - 3
    np.testing.assert_allclose(read_image(path).array[0], expected)


def test_a_multi_frame_file_gives_the_same_image_as_the_series(tmp_path, stored):
    lean = np.radians(12)  # a tilted gantry: the table moves along z
    axes, step = ((1, 0, 0), (0, np.cos(lean), -np.sin(lean))), (0, 0, 2.5)
    for name, places in (("plain", {}), ("tilted", {"axes": axes, "step": step})):
        write_series(tmp_path / name / "series", stored.astype(np.int16) - 1024, **places)
        write_frames(tmp_path / name / "frames" / "x.dcm", stored, order=SHUFFLED, **places)
        series, frames = (read_image(tmp_path / name / kind) for kind in ("series", "frames"))
        np.testing.assert_allclose(frames.array, series.array, atol=0.501)  # series are rounded to their whole numbers
        np.testing.assert_allclose(frames.geometry.origin, series.geometry.origin, atol=1e-4)
        assert frames.geometry.shape == series.geometry.shape
        assert frames.remarks == series.remarks


@pytest.mark.parametrize("syntax", [uids.RLELossless, uids.JPEGLSLossless])
@pytest.mark.parametrize("decoder", ["pydicom", "GDCM"])
def test_compressed_frames_have_the_same_voxels(tmp_path, stored, syntax, decoder, monkeypatch):
    path = write_frames(tmp_path / "x.dcm", stored, order=SHUFFLED, slopes=[2.0] * 6)
    plain = read_image(path)
    if syntax == uids.JPEGLSLossless:
        pytest.importorskip("jpeg_ls", reason="no encoder")
    data = pydicom.dcmread(path)
    data.compress(syntax)
    data.save_as(path)
    if decoder == "GDCM":
        monkeypatch.delattr(pydicom.Dataset, "pixel_array")
    np.testing.assert_array_equal(read_image(path).array, plain.array)


def test_a_missing_frame_is_an_error_that_names_the_place(tmp_path, stored):
    path = write_frames(tmp_path / "x.dcm", stored, places=[0, 1, 2, 4, 5, 6])
    with pytest.raises(ValueError, match=r"between the positions -95 and -90 mm, where slices lie 2\.5 mm apart"):
        read_image(path)


def test_a_copied_frame_counts_once_and_a_second_version_is_an_error(tmp_path, stored):
    stored[3] = stored[2]
    path = write_frames(tmp_path / "x.dcm", stored, places=[0, 1, 2, 2, 3, 4])
    np.testing.assert_array_equal(read_image(path).array[0], np.delete(stored, 3, axis=0).astype(np.float32) - 1024)
    stored[3, 0, 0] = 4095 - stored[2, 0, 0]
    write_frames(path, stored, places=[0, 1, 2, 2, 3, 4])
    with pytest.raises(ValueError, match=r"x\.dcm frame 3 and x\.dcm frame 4 both lie at -95 mm but differ"):
        read_image(path)


@pytest.mark.parametrize(
    ("sequence", "name", "values"),
    [
        ("FrameContentSequence", "StackID", ("1", "2")),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2)),
        ("MREchoSequence", "EffectiveEchoTime", (10.0, 20.0)),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 1000.0)),
        ("MRTimingAndRelatedParametersSequence", "FlipAngle", (5.0, 15.0)),  # not in our list of attributes
    ],
)
def test_several_stacks_are_an_error_that_says_how_to_choose_one(tmp_path, stored, sequence, name, values):
    extra = [{sequence: {name: values[k // 3]}} for k in range(6)]
    folder = write_frames(tmp_path / "s" / "x.dcm", stored, places=[0, 1, 2] * 2, order=SHUFFLED, extra=extra).parent
    with pytest.raises(ValueError, match=rf"2 images that differ in {name} .*--option frames={name}="):
        read_image(folder)
    for k, value in enumerate(values):
        image = read_series(folder, frames=[f"{name}={value}"])
        np.testing.assert_array_equal(image.array[0], stored[3 * k : 3 * k + 3].astype(np.float32) - 1024)
    with pytest.raises(ValueError, match=rf"no frame has {name}=7; use one of {values[0]}, {values[1]}"):
        read_series(folder, frames=[f"{name}=7"])


def test_stacks_side_by_side_are_not_joined(tmp_path, stored):
    extra = [{"FrameContentSequence": {"StackID": str(1 + k // 3)}} for k in range(6)]
    path = write_frames(tmp_path / "x.dcm", stored, extra=extra)
    with pytest.raises(ValueError, match="2 images that differ in StackID"):
        read_image(path)


def test_frames_that_turn_or_change_their_pixel_spacing_are_refused(tmp_path, stored):
    turned = [{"PlaneOrientationSequence": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}} if k == 4 else {}
              for k in range(6)]  # fmt: skip
    path = write_frames(tmp_path / "x.dcm", stored, extra=turned)
    with pytest.raises(ValueError, match=r"frame 5 is oriented differently"):
        read_image(path)
    write_frames(path, stored, spacings=[(0.8, 0.7)] * 5 + [(0.8, 0.9)])
    with pytest.raises(ValueError, match=r"frame 6 has a pixel spacing of 0\.8 x 0\.9 mm.* 0\.8 x 0\.7 mm"):
        read_image(path)


def test_frames_without_positions_need_a_distance(tmp_path, stored):
    path = write_frames(tmp_path / "x.dcm", stored)
    data = pydicom.dcmread(path)
    for frame in data.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    data.save_as(path)
    with pytest.raises(ValueError, match=r"6 frames have no positions \(a film\?\)"):
        read_image(path)
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3.0
    data.save_as(path)
    image = read_image(path)
    assert image.geometry.spacing == (3.0, 0.8, 0.7)
    assert "taken in file order, 3 mm apart" in image.remarks[0]


def test_a_header_with_other_numbers_of_frames_is_refused(tmp_path, stored):
    path = write_frames(tmp_path / "x.dcm", stored)
    data = pydicom.dcmread(path)
    data.PerFrameFunctionalGroupsSequence.pop()
    data.save_as(path)
    with pytest.raises(ValueError, match="has 6 frames but 5 functional groups"):
        read_image(path)


def test_files_of_one_series_with_some_frames_each_are_one_volume(tmp_path, stored):
    for name, part in (("b", [0, 2, 4]), ("a", [1, 3]), ("c", [5])):
        write_frames(tmp_path / f"{name}.dcm", stored, order=part)
    np.testing.assert_array_equal(read_image(tmp_path).array[0], stored.astype(np.float32) - 1024)


def test_a_single_frame_has_the_thickness_of_its_header(tmp_path, stored):
    path = write_frames(tmp_path / "1.2.840.7", stored[:1])  # named by a UID
    assert read_image(path).geometry.spacing == (5.0, 0.8, 0.7)


def test_a_dose_grid_has_the_offsets_of_its_frames(tmp_path, stored):
    path = write_frames(tmp_path / "x.dcm", stored)
    data = pydicom.dcmread(path)
    del data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = uids.RTDoseStorage
    data.ImagePositionPatient, data.ImageOrientationPatient = FIRST.tolist(), [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.GridFrameOffsetVector = [0.8, 0.7], [0, -3, -6, -9, -12, -15]
    data.save_as(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.array[0], stored[::-1])
    np.testing.assert_allclose(image.geometry.origin, FIRST - [0, 0, 15])
    assert image.geometry.spacing == (3.0, 0.8, 0.7)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_radiograph_is_a_2d_image(tmp_path, stored, photometric):
    path = write_radiograph(tmp_path / "s" / "x.dcm", stored[0], PhotometricInterpretation=photometric)
    expected = 4095 - stored[0] if photometric == "MONOCHROME1" else stored[0]
    for source in (path, path.parent):
        image = read_image(source)
        np.testing.assert_array_equal(image.array[0], expected)
        assert image.geometry.spacing == pytest.approx(SPACING[1:])
        assert read_layout(source) == (1, SHAPE[1:])
    with pytest.raises(ValueError, match="cannot store spacing"):
        write_image(tmp_path / "x.png", image)


@pytest.mark.parametrize(
    ("values", "spacing", "remark"),
    [
        ({}, SPACING[1:], ""),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": ["3", "2"]}, (1.5, 1), "its pixels are 1.5 x 1 (PixelAspect"),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": ["1", "2"]}, (1, 2), "its pixels are 1 x 2 (PixelAspect"),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": ["1", "1"]}, (1, 1), ""),
        ({"PixelAspectRatio": ["3", "2"]}, SPACING[1:], ""),
        ({"PresentationLUTShape": "INVERSE"}, SPACING[1:], "its PresentationLUTShape is INVERSE, which contradicts"),
        ({"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}, SPACING[1:], ""),
        ({"PresentationLUTShape": "IDENTITY"}, SPACING[1:], ""),
    ],
)
def test_pixels_that_are_not_square_and_contradictory_scales_are_remarks(tmp_path, stored, values, spacing, remark):
    image = read_image(write_radiograph(tmp_path / "x.dcm", stored[0], **values))
    assert image.geometry.spacing == pytest.approx(spacing)
    assert len(image.remarks) == bool(remark)
    assert all(text.startswith(remark) for text in image.remarks)


def test_several_radiographs_of_a_series_are_not_stacked(tmp_path, stored):
    for k in range(2):
        write_radiograph(tmp_path / f"{k}.dcm", stored[k], SeriesInstanceUID="1.2.826.4")
    with pytest.raises(ValueError, match="2 images have no position, so each is a 2D image of its own"):
        read_image(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path / "1.dcm").array[0], stored[1])


def test_one_slice_of_a_series_is_an_image_of_one_plane(tmp_path, stored):
    files = write_series(tmp_path / "s", stored.astype(np.int16))
    np.testing.assert_array_equal(read_image(files[0]).array, stored[None, :1])
