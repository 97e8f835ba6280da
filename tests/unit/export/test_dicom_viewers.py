"""What viewers show of the DICOM exports: valid objects, and our boxes in the libraries that viewers read them with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from boxel.export import Prediction, get_format
from boxel.types import Detections
from unit.export.dciodvfy import needs_dciodvfy, object_in
from unit.export.examples import CLASSES, read, same

hd = pytest.importorskip("highdicom", reason="the extra boxel[dicom] is not installed")
pydicom = pytest.importorskip("pydicom")

from unit.datasets.dicom_samples import write_series  # noqa: E402
from unit.dicom_frames import write_frames  # noqa: E402
from unit.export.dicom_examples import BOXES, SHAPE, predict, write_image  # noqa: E402

KINDS = ("series", "frames", "radiograph")
OBJECTS = {
    "dicom-sr": "Comprehensive3DSR",
    "dicom-seg": "Segmentation",
    "dicom-rtstruct": "RTStructureSet",
    "dicom-pr": "GrayscaleSoftcopyPresentationState",
    "dicom-sc": "SCImage",
}
PLANES = {"benign": (3, 4), "malignant": (1,)}  # of the boxes
NODE_MODULES = os.environ.get("BOXEL_NODE_MODULES", "")


def written(tmp_path, kind, name):
    """The image, the prediction and the files of a format."""
    path = write_image(kind, tmp_path / "image")
    prediction = predict(path)
    return path, prediction, get_format(name).write(tmp_path / "out", [prediction])


def planes_by_uid(path):
    """The plane at each file and frame of an image."""
    heights = {}
    for file in path.iterdir() if path.is_dir() else [path]:
        header = pydicom.dcmread(file)
        groups = header.get("PerFrameFunctionalGroupsSequence")
        for frame, group in enumerate(groups or [header], start=1):
            place = group.PlanePositionSequence[0] if groups else header
            heights[header.SOPInstanceUID, frame] = float(place.get("ImagePositionPatient", [0, 0, 0])[2])
    order = sorted(heights.values())
    return {key: order.index(height) for key, height in heights.items()}


@needs_dciodvfy
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_is_valid(tmp_path, kind, name):
    if (kind, name) == ("radiograph", "dicom-rtstruct"):
        pytest.skip("a 2D image has no structure set")
    paths = written(tmp_path, kind, name)[-1]
    assert {object_in(path) for path in paths} == {OBJECTS[name]}


@needs_dciodvfy
@pytest.mark.parametrize("kind", ["slice", "mr", "nuclear"])
def test_single_files_of_other_kinds_have_objects_too(tmp_path, kind):
    path = write_image(kind, tmp_path / "image")
    prediction = predict(path)
    for name, expected in OBJECTS.items():
        if (kind, name) == ("nuclear", "dicom-seg"):
            with pytest.raises(ValueError, match=r"functional groups .* write dicom-rtstruct or dicom-sr"):
                get_format(name).write(tmp_path / name, [prediction])
            continue
        files = get_format(name).write(tmp_path / name, [prediction])
        assert {object_in(file) for file in files} == {expected}
        if get_format(name).read:
            back = read(name, tmp_path / name, geometries={"case 1": prediction.geometry})
            same(back["case 1"], prediction.detections)


@pytest.mark.parametrize("kind", KINDS)
def test_a_presentation_state_draws_each_box_on_every_slice_that_it_crosses(tmp_path, kind):
    path, _, files = written(tmp_path, kind, "dicom-pr")
    planes, drawn = planes_by_uid(path), []
    for state in map(pydicom.dcmread, files):
        names = {layer.GraphicLayer: layer.GraphicLayerDescription for layer in state.GraphicLayerSequence}
        for annotation in state.GraphicAnnotationSequence:
            [image] = annotation.ReferencedImageSequence
            plane = planes[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)]
            for box in annotation.GraphicObjectSequence:
                points = np.reshape(box.GraphicData, (-1, 2))
                drawn.append((names[annotation.GraphicLayer], plane, *points.min(axis=0), *points.max(axis=0)))
    expected = {"benign": (11, 10, 20, 14), "malignant": (3, 2, 9, 5)}  # columns and rows
    assert sorted(drawn) == sorted(
        (name, plane, *expected[name])
        for name, where in PLANES.items()
        for plane in (where if kind != "radiograph" else (0,))
    )


def test_slices_that_mean_other_values_have_presentation_states_of_their_own(tmp_path):
    stored = np.zeros(SHAPE, int)
    path = write_frames(tmp_path / "x.dcm", stored, slopes=[1, 1, 1, 2, 2, 3], WindowCenter=40, WindowWidth=[400, 80])
    files = get_format("dicom-pr").write(tmp_path / "out", [predict(path)])
    states = [pydicom.dcmread(file) for file in files]
    assert [state.RescaleSlope for state in states] == [1, 2]  # no box crosses the last slice
    frames = [state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber for state in states]
    assert frames == [[1, 2, 3], [4, 5]]
    windows = [state.SoftcopyVOILUTSequence[0] for state in states]
    assert {(window.WindowCenter, window.WindowWidth) for window in windows} == {(40, 400)}


def test_the_windows_of_slices_are_kept(tmp_path):
    files = write_series(tmp_path / "mr", np.zeros(SHAPE, np.int16), RescaleIntercept=0, WindowCenter=40)
    for number, file in enumerate(files):
        header = pydicom.dcmread(file)
        header.WindowWidth, header.PixelRepresentation = 100 + number // 4, 1
        header.save_as(file)
    [state] = get_format("dicom-pr").write(tmp_path / "out", [predict(tmp_path / "mr")])
    windows = pydicom.dcmread(state).SoftcopyVOILUTSequence
    assert {(window.WindowWidth, len(window.ReferencedImageSequence)) for window in windows} == {(100, 4), (101, 2)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_secondary_capture_shows_the_boxes_on_the_slice_through_their_middle(tmp_path, kind):
    path, _, files = written(tmp_path, kind, "dicom-sc")
    planes, shown = planes_by_uid(path), {}
    for capture in map(pydicom.dcmread, files):
        [image] = capture.SourceImageSequence
        pixels = capture.pixel_array
        assert pixels.shape == (16 * SHAPE[1], 16 * SHAPE[2], 3)
        colours = pixels[[10 * 16 + 32, 2 * 16 + 24], [11 * 16, 3 * 16]]  # the left borders
        shown[planes[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)]] = [
            "benign" if tuple(c) == (0x56, 0xB4, 0xE9) else "malignant" if tuple(c) == (0xF0, 0xB0, 0) else ""
            for c in colours.tolist()
        ]
    both = {0: ["benign", "malignant"]}
    assert shown == (both if kind == "radiograph" else {1: ["", "malignant"], 4: ["benign", ""]})


@pytest.mark.parametrize("name", ["dicom-pr", "dicom-sc"])
def test_a_case_without_detections_has_no_pictures(tmp_path, name, ndim):
    path = write_image("series" if ndim == 3 else "radiograph", tmp_path / "image")
    none = Prediction("empty", Detections.empty(ndim, predict(path).geometry), CLASSES, (path,))
    with pytest.warns(UserWarning, match="'empty': no DICOM .* is written, which needs at least one detection"):
        assert get_format(name).write(tmp_path / "out", [none]) == []


def test_a_colour_image_has_no_presentation_state(tmp_path):
    path = write_image("radiograph", tmp_path)
    header = pydicom.dcmread(path)
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PixelData = bytes(3 * SHAPE[1] * SHAPE[2])
    header.save_as(path)
    with pytest.raises(ValueError, match="this one has colours; write dicom-sc or dicom-sr"):
        get_format("dicom-pr").write(tmp_path / "out", [predict(path)])
    assert get_format("dicom-sc").write(tmp_path / "out", [predict(path)])


@pytest.fixture(scope="module")
def ohif(tmp_path_factory):
    """The program that reads a report as OHIF does: its sources with the libraries, in one file."""
    bundler = Path(NODE_MODULES, "esbuild", "bin", "esbuild")
    if not (NODE_MODULES and shutil.which("node") and bundler.exists()):
        pytest.skip("node, dcmjs, @cornerstonejs/adapters and esbuild are not installed (see .ci/run)")
    program = tmp_path_factory.mktemp("ohif") / "program.cjs"
    source = Path(__file__).with_name("ohif_annotations.mjs")
    options = ["--bundle", "--platform=node", "--format=cjs", "--log-level=error", f"--outfile={program}"]
    subprocess.run([bundler, source, *options], env=os.environ | {"NODE_PATH": NODE_MODULES}, check=True)
    return program


@pytest.mark.parametrize("kind", ["series", "frames"])
def test_ohif_draws_our_boxes(tmp_path, ohif, kind):
    path, prediction, [report] = written(tmp_path, kind, "dicom-sr")
    images = path.iterdir() if path.is_dir() else [path]
    output = subprocess.run(["node", ohif, report, *images], capture_output=True, text=True, check=True).stdout
    annotations, planes = json.loads(output), planes_by_uid(path)
    assert [(one["tool"], one["finding"]) for one in annotations] == [
        ("RectangleROI", "benign"),
        ("RectangleROI", "malignant"),
    ]
    for one, box, plane in zip(annotations, BOXES[::-1], (4, 1), strict=True):
        assert planes[one["image"], one["frame"]] == plane
        drawn = prediction.geometry.to_voxel(np.array(one["points"]))
        np.testing.assert_allclose(drawn[:, 0], plane + 0.5, atol=1e-4)
        np.testing.assert_allclose([drawn.min(axis=0)[1:], drawn.max(axis=0)[1:]], box[:, 1:], atol=1e-4)


@pytest.mark.parametrize("kind", ["series", "frames"])
def test_3d_slicer_reads_our_segments_and_scores(tmp_path, kind):
    """With dcmqi, by which 3D Slicer opens segmentations and reports."""
    import SimpleITK as sitk

    pytest.importorskip("dcmqi")
    _, prediction, [segmentation] = written(tmp_path, kind, "dicom-seg")
    programs = Path(sys.executable).parent
    subprocess.run(
        [programs / "segimage2itkimage", "--inputDICOM", segmentation, "--outputDirectory", tmp_path, "-t", "nrrd"],
        capture_output=True,
        check=True,
    )
    described = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"]
    assert [segment["SegmentLabel"] for [segment] in described] == ["benign 1", "malignant 2"]
    for number, box in enumerate(BOXES[::-1], start=1):
        volume = sitk.ReadImage(tmp_path / f"{number}.nrrd")
        where = np.argwhere(sitk.GetArrayFromImage(volume) > 0)[:, ::-1]
        world = [volume.TransformIndexToPhysicalPoint(index) for index in where.tolist()]
        voxels = prediction.geometry.to_voxel(np.array(world))
        np.testing.assert_allclose([voxels.min(axis=0) - 0.5, voxels.max(axis=0) + 0.5], box, atol=1e-3)
    [report] = get_format("dicom-sr").write(tmp_path / "out", [prediction])
    subprocess.run(
        [programs / "tid1500reader", "--inputDICOM", report, "--outputMetadata", tmp_path / "sr.json"],
        capture_output=True,
        check=True,
    )
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    scores = {(group["TrackingIdentifier"], group["measurementItems"][0]["value"]) for group in groups}
    assert scores == {("benign 1", "87.5"), ("malignant 2", "25.0")}
