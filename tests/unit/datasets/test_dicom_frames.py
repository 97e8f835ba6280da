"""Data sets of multi-frame DICOM and of radiographs, with annotations that highdicom wrote."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

from unit.datasets.dicom_samples import write_segmentation, write_series, write_structures  # noqa: E402
from unit.dicom_frames import write_frames, write_radiograph  # noqa: E402

SHAPE = (6, 32, 40)
SHUFFLED = (3, 0, 5, 1, 4, 2)


@pytest.fixture
def stored(rng):
    return rng.integers(0, 4096, SHAPE)


def objects_of(dataset, case):
    loaded = read_case(case, dataset)
    names = [dataset.classes[label] for label in loaded.instances.labels]
    return sorted(zip(names, loaded.instances.boxes.round(3).tolist(), strict=True))


def write_report(path, evidence, regions):
    """Regions `(file, frame, kind, points)` in columns and rows, each with the finding Nodule."""
    from pydicom.sr.codedict import codes

    groups = []
    for file, frame, kind, points in regions:
        header = pydicom.dcmread(file)
        image = hd.sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frame and [frame])
        region = hd.sr.ImageRegion(kind, np.array(points, float), image)
        tracking = hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="1")
        groups.append(
            hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(tracking, region, finding_type=codes.SCT.Nodule)
        )
    observer = hd.sr.ObserverContext(codes.DCM.Person, hd.sr.PersonObserverIdentifyingAttributes(name="A^B"))
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    hd.sr.ComprehensiveSR(
        evidence=[pydicom.dcmread(file) for file in evidence], content=report[0], series_number=9, manufacturer="x",
        series_instance_uid=hd.UID(), sop_instance_uid=hd.UID(), instance_number=1,
    ).save_as(path)  # fmt: skip


def test_segments_of_a_multi_frame_file_lie_on_its_planes_in_order_of_position(tmp_path, stored):
    path = write_frames(tmp_path / "ct" / "x.dcm", stored, order=SHUFFLED)
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 6:10, 8:14] = True
    write_segmentation(tmp_path / "seg.dcm", [path], {"lesion": mask[list(SHUFFLED)]})
    dataset = open_dataset(tmp_path)
    assert objects_of(dataset, dataset.cases[0]) == [("Lesion", [[2, 6, 8], [4, 10, 14]])]
    np.testing.assert_array_equal(read_case(dataset.cases[0], dataset).label_map > 0, mask)


def test_frames_of_a_segmentation_without_position_lie_on_the_frames_that_they_refer_to(tmp_path, stored):
    path = write_frames(tmp_path / "ct" / "x.dcm", stored, order=SHUFFLED)
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 6:10, 8:14] = True
    write_segmentation(tmp_path / "seg.dcm", [path], {"lesion": mask[list(SHUFFLED)]})
    data = pydicom.dcmread(tmp_path / "seg.dcm")
    for group in [*data.SharedFunctionalGroupsSequence, *data.PerFrameFunctionalGroupsSequence]:
        group.pop("PlanePositionSequence", None)
    data.save_as(tmp_path / "seg.dcm")
    dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(read_case(dataset.cases[0], dataset).label_map > 0, mask)


def test_structure_sets_lie_on_the_planes_of_a_multi_frame_file(tmp_path, stored):
    write_frames(tmp_path / "ct" / "x.dcm", stored, order=SHUFFLED)
    outline = [(4.5, 5.5), (14.5, 5.5), (14.5, 15.5), (4.5, 15.5)]  # between pixel centres
    write_structures(tmp_path / "rs.dcm", {"GTV": [(2, outline), (3, outline)]})
    dataset = open_dataset(tmp_path)
    assert objects_of(dataset, dataset.cases[0]) == [("GTV", [[2, 6, 5], [4, 16, 15]])]


@pytest.mark.parametrize("kind", ["series", "frames"])
def test_reports_may_be_drawn_on_single_slices_or_frames(tmp_path, stored, kind):
    if kind == "series":
        files = write_series(tmp_path / "ct", stored.astype(np.int16))
        places = [(file, None) for file in files]
    else:
        path = write_frames(tmp_path / "ct" / "x.dcm", stored, order=SHUFFLED)
        files, places = [path], [(path, SHUFFLED.index(plane) + 1) for plane in range(6)]
    regions = [
        (*places[4], "CIRCLE", [(10, 20), (13, 24)]),  # the centre in column 10 and row 20
        (*places[1], "POLYLINE", [(3, 2), (9, 2), (9, 5), (3, 5), (3, 2)]),
    ]
    write_report(tmp_path / "sr.dcm", files, regions)
    dataset = open_dataset(tmp_path)
    near = objects_of(dataset, dataset.cases[0])
    assert [name for name, _ in near] == ["Nodule", "Nodule"]
    assert near[0][1] == [[1, 2, 3], [2, 5, 9]]
    radius = np.hypot(3 * 0.7, 4 * 0.8)
    np.testing.assert_allclose(near[1][1], [[4, 20 - radius / 0.8, 10 - radius / 0.7],
                                            [5, 20 + radius / 0.8, 10 + radius / 0.7]], atol=1e-3)  # fmt: skip


def test_views_of_one_series_are_2d_images_with_annotations_of_their_own(tmp_path, stored):
    views = [write_radiograph(tmp_path / "mg" / f"{name}.dcm", stored[k], SeriesInstanceUID="1.2.826.4", Modality="MG")
             for k, name in enumerate(("cc", "mlo", "normal"))]  # fmt: skip
    regions = [(views[0], None, "POLYLINE", [(3, 2), (9, 2), (9, 5), (3, 5), (3, 2)]),
               (views[1], None, "CIRCLE", [(20, 15), (24, 18)])]  # fmt: skip
    write_report(tmp_path / "mg" / "sr.dcm", views[:2], regions)
    mask = np.zeros((1, *SHAPE[1:]), bool)
    mask[0, 20:25, 30:38] = True
    write_segmentation(tmp_path / "mg" / "seg.dcm", views[1:2], {"lesion": mask})
    dataset = open_dataset(tmp_path)
    assert (dataset.ndim, dataset.channels) == (2, ("MG",))
    assert [case.id for case in dataset.cases] == ["mg_cc", "mg_mlo"]
    assert dataset.unlabelled == ("mg_normal",)
    assert objects_of(dataset, dataset.cases[0]) == [("Nodule", [[2, 3], [5, 9]])]
    assert objects_of(dataset, dataset.cases[1]) == [
        ("Lesion", [[20, 30], [25, 38]]), ("Nodule", [[10, 15], [20, 25]]),
    ]  # fmt: skip
    for case, k in zip(dataset.cases, range(2), strict=True):
        np.testing.assert_array_equal(read_case(case, dataset).image.array[0], stored[k])
    whole = open_dataset(tmp_path, options=["negatives=true"])
    assert [len(read_case(case, whole).instances) for case in whole.cases] == [1, 2, 0]


def test_one_stack_is_chosen_by_an_option(tmp_path, stored):
    extra = [{"FrameContentSequence": {"StackID": str(1 + k // 3)}} for k in range(6)]
    write_frames(tmp_path / "x.dcm", stored, extra=extra)
    (error,) = [finding for finding in check(tmp_path, options=["negatives=true"]) if finding.severity == "error"]
    assert error.problem == "its frames form 2 images that differ in StackID (1, 2)"
    assert error.suggested_fix.startswith("choose one with --option frames=StackID=1")
    dataset = open_dataset(tmp_path, options=["negatives=true", "frames=StackID=2"])
    image = read_case(dataset.cases[0], dataset).image
    np.testing.assert_array_equal(image.array[0], stored[3:] - 1024)


def test_radiographs_beside_volumes_are_left_out_with_a_warning(tmp_path, stored):
    write_series(tmp_path / "ct", stored.astype(np.int16))
    write_radiograph(tmp_path / "dx" / "x.dcm", stored[0])
    problems = []
    dataset = open_dataset(tmp_path, problems.append, options=["negatives=true"])
    assert [case.id for case in dataset.cases] == ["ct"]
    assert any("1 2D image is left out beside 1 volume" in str(problem) for problem in problems)
    flat = open_dataset(tmp_path, options=["negatives=true", "modalities=DX"])
    assert ([case.id for case in flat.cases], flat.ndim) == (["dx"], 2)


def test_a_structure_set_of_a_radiograph_is_refused(tmp_path, stored):
    write_radiograph(tmp_path / "x.dcm", stored[0], SeriesInstanceUID="1.2.826.2")
    write_structures(tmp_path / "rs.dcm", {"GTV": [(2, [(4, 5), (14, 5), (14, 15)])]})
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert "drawn in mm, but the image has no position" in error.problem


SQUARE = [(3, 2), (9, 2), (9, 5), (3, 5), (3, 2)]


@pytest.mark.parametrize(("others", "cases", "objects"), [(1, ["ct"], 1), (0, [], 0)])
def test_findings_of_a_report_that_are_points_are_left_out_with_a_warning(tmp_path, stored, others, cases, objects):
    files = write_series(tmp_path / "ct", stored.astype(np.int16))
    regions = [(files[k], None, "POLYLINE", SQUARE) for k in range(others + 2)]
    write_report(tmp_path / "sr.dcm", files, regions)
    _make_points(tmp_path / "sr.dcm", 2)
    problems = []
    dataset = open_dataset(tmp_path, problems.append)
    (warning,) = [problem for problem in problems if problem.file == tmp_path / "sr.dcm"]
    assert warning.severity == "warning"
    assert warning.problem.startswith("2 shapes of kind point left out: a point has no extent")
    assert [case.id for case in dataset.cases] == cases
    assert sum(len(read_case(case, dataset).instances) for case in dataset.cases) == objects


def _make_points(path, count):
    """Turn the drawings of the first measurement groups into points."""
    data = pydicom.dcmread(path)
    drawn = [item for item in _items(data) if item.get("GraphicType") == "POLYLINE"]
    for item in drawn[:count]:
        item.GraphicType, item.GraphicData = "POINT", [5.0, 4.0]
    data.save_as(path)


def _items(item):
    for part in item.get("ContentSequence", ()):
        yield part
        yield from _items(part)


def test_series_and_annotations_behind_links_are_read_once(tmp_path, stored):
    files = write_series(tmp_path / "store" / "ct", stored.astype(np.int16))
    write_report(tmp_path / "store" / "sr.dcm", files, [(files[2], None, "POLYLINE", SQUARE)])
    root = tmp_path / "set"
    root.mkdir()
    (root / "patient").symlink_to(tmp_path / "store")
    (root / "patient_again").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(root)
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases] == ["patient_ct"]
    assert objects_of(dataset, dataset.cases[0]) == [("Nodule", [[2, 2, 3], [3, 5, 9]])]
