"""Small DICOM series, segmentations and LIDC readings, made as the standards say."""

from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid  # noqa: E402

SHAPE = (6, 32, 40)
SPACING = (2.5, 0.8, 0.7)


def volume(rng) -> np.ndarray:
    return rng.integers(-1000, 1000, SHAPE).astype(np.int16)


def new_file(path: Path, storage: str, **values) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = storage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.PatientID, data.PatientName = "1.2.826.1", "LIDC-IDRI-0001", "A^B"
    data.PatientBirthDate, data.PatientSex, data.StudyDate, data.StudyTime = "", "", "", ""
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName, data.FrameOfReferenceUID = "1", "", "", "1.2.826.9"
    for name, value in values.items():
        setattr(data, name, value)
    return data


def write_series(
    folder: Path,
    array: np.ndarray,
    uid: str = "1.2.826.2",
    *,
    axes=((1, 0, 0), (0, 1, 0)),
    step=None,
    **values,
) -> list[Path]:
    """One file per plane of `array`, in HU; SliceThickness lies, and names are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    step = np.cross(*axes) * SPACING[0] if step is None else np.asarray(step, float)
    files = []
    for number, plane in enumerate(array):
        path = folder / f"{(number * 5) % 7:03d}.dcm"
        data = new_file(
            path, CTImageStorage, Modality="CT", SeriesInstanceUID=uid, SeriesNumber=1, InstanceNumber=number
        )
        data.ImagePositionPatient = [float(x) for x in np.array([-20.0, 30.0, -100.0]) + number * step]
        data.ImageOrientationPatient = [float(x) for x in np.ravel(axes)]
        data.PixelSpacing, data.SliceThickness = [SPACING[1], SPACING[2]], 5.0
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        unsigned = bool(number % 2)  # both kinds in one series
        data.PixelRepresentation = 0 if unsigned else 1
        data.RescaleSlope, data.RescaleIntercept = 1, -1024 if unsigned else 0
        stored = (plane.astype(int) + 1024).astype(np.uint16) if unsigned else plane.astype(np.int16)
        data.PixelData = stored.tobytes()
        for name, value in values.items():
            setattr(data, name, value)
        data.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def write_structures(path: Path, regions: dict[str, list], uid="1.2.826.2", frame_uid="1.2.826.9") -> None:
    """Regions, each a list of `(plane, [(x, y) in pixels])`, perhaps with the type; pixel centres at whole numbers."""
    data = new_file(path, RTStructureSetStorage, Modality="RTSTRUCT", SeriesInstanceUID="1.2.826.7")
    data.FrameOfReferenceUID = frame_uid
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = uid
    study.RTReferencedSeriesSequence = Sequence([series])
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = frame_uid, Sequence([study])
    data.ReferencedFrameOfReferenceSequence = Sequence([frame])
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region, drawn = Dataset(), Dataset()
        region.ROINumber, region.ROIName, drawn.ReferencedROINumber = number, name, number
        drawn.ContourSequence = Sequence()
        for plane, points, *kind in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = (*kind, "CLOSED_PLANAR")[0], len(points)
            world = [(-20 + x * SPACING[2], 30 + y * SPACING[1], -100 + plane * SPACING[0]) for x, y in points]
            contour.ContourData = [f"{value:.6g}" for point in world for value in point]
            drawn.ContourSequence.append(contour)
        data.StructureSetROISequence.append(region)
        data.ROIContourSequence.append(drawn)
    data.save_as(path, enforce_file_format=True)


def write_segmentation(path: Path, files: list[Path], masks: dict[str, np.ndarray], kind: str = "BINARY") -> None:
    """A SEG of possibly overlapping segments; fractions in FRACTIONAL ones."""
    hd = pytest.importorskip("highdicom")
    codes = pytest.importorskip("pydicom.sr.codedict").codes
    sources = [pydicom.dcmread(file) for file in files]
    segments = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Liver if name == "liver" else codes.SCT.Lesion,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]  # fmt: skip
    pixels = np.stack(list(masks.values()), axis=-1).astype(np.uint8 if kind == "BINARY" else np.float32)
    hd.seg.Segmentation(
        source_images=sources, pixel_array=pixels, segmentation_type=kind, segment_descriptions=segments,
        series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer="x", manufacturer_model_name="x", software_versions="1", device_serial_number="1",
    ).save_as(path)  # fmt: skip


def ring(x: int, y: int, size: int) -> list[tuple[int, int]]:
    """The outermost pixels of a square of `size` pixels, as a closed walk."""
    side = range(size - 1)
    top, right = [(x + i, y) for i in side], [(x + size - 1, y + i) for i in side]
    bottom, left = [(x + size - 1 - i, y + size - 1) for i in side], [(x, y + size - 1 - i) for i in side]
    return [*top, *right, *bottom, *left]


def write_lidc(path: Path, sessions: list[list[tuple[str, int, dict]]], uid="1.2.826.2") -> None:
    """Sessions of `(nodule, malignancy, {plane: outline})`, with all that the public schema (LidcReadMessage.xsd) has.

    Malignancy 0 stands for a small nodule, without ratings. A plane `(plane, "FALSE")` is an exclusion. Every session
    has a finding that is no nodule, too.
    """
    text = []
    ratings = ("subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation",
               "texture")  # fmt: skip
    for rater, session in enumerate(sessions):
        nodules = []
        for name, malignancy, outlines in session:
            rated = "".join(f"<{rating}>3</{rating}>" for rating in ratings)
            rated = f"<characteristics>{rated}<malignancy>{malignancy}</malignancy></characteristics>"
            rois = ""
            for place, pixels in outlines.items():
                plane, inclusion = place if isinstance(place, tuple) else (place, "TRUE")
                edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in pixels)
                where = f"<imageZposition>{_z(plane):.6f} </imageZposition><imageSOP_UID>{uid}.{plane}</imageSOP_UID>"
                rois += f"<roi>{where}<inclusion>{inclusion}</inclusion>{edges}</roi>"
            known = rated if malignancy else ""
            nodules.append(f"<unblindedReadNodule><noduleID>{name}</noduleID>{known}{rois}</unblindedReadNodule>")
        other = (
            f"<nonNodule><nonNoduleID>{rater}99</nonNoduleID><imageZposition>{_z(1):.6f} </imageZposition>"
            f"<imageSOP_UID>{uid}.1</imageSOP_UID><locus><xCoord>30</xCoord><yCoord>4</yCoord></locus></nonNodule>"
        )
        known = "<annotationVersion>3.12</annotationVersion><servicingRadiologistID>anon</servicingRadiologistID>"
        text.append(f"<readingSession>{known}{''.join(nodules)}{other}</readingSession>")
    head = (
        "<ResponseHeader><Version>1.8.1</Version><MessageId>1148851</MessageId><DateRequest>2005-11-03</DateRequest>"
        "<TimeRequest>12:25:14</TimeRequest><RequestingSite>removed</RequestingSite><ServicingSite>removed"
        "</ServicingSite><TaskDescription>Second unblinded read</TaskDescription><CtImageFile>removed</CtImageFile>"
        f"<SeriesInstanceUid>{uid}</SeriesInstanceUid><DateService>2005-11-03</DateService><TimeService>12:25:40"
        "</TimeService><ResponseDescription>1 - Reading complete</ResponseDescription>"
        "<StudyInstanceUID>1.2.826.1</StudyInstanceUID></ResponseHeader>"
    )
    space = (
        'xmlns="http://www.nih.gov" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://www.nih.gov http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd"'
    )
    body = f"{head}{''.join(text)}"
    message = f'<LidcReadMessage uid="1.3.6.1.4.1.14519.5.2.1.6279.6001" {space}>{body}</LidcReadMessage>'
    path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{message}')


def _z(plane: int) -> float:
    return -100 + plane * SPACING[0]


def write_lidc_segments(folder: Path, files: list[Path], readings: list[tuple[str, int, np.ndarray]]) -> None:
    """Readings `(nodule, malignancy, mask)` as LIDC-IDRI's DICOM distribution has them: a SEG and a SR for each.

    The codes are those of the distribution (Fedorov et al., 2020): "Malignancy" of RadLex, its values of 99LIDCQIICR.
    """
    hd = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    folder.mkdir(parents=True, exist_ok=True)
    sources = [pydicom.dcmread(file) for file in files]
    uids = {name: generate_uid() for name, _, _ in readings}
    made = {"manufacturer": "x", "instance_number": 1}
    for number, (name, malignancy, mask) in enumerate(readings):
        title = f"{name} - Annotation {number}"
        segment = hd.seg.SegmentDescription(
            1, title, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Nodule,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL, tracking_uid=uids[name], tracking_id=title,
            anatomic_regions=[codes.SCT.Lung],
        )  # fmt: skip
        seg = hd.seg.Segmentation(
            source_images=sources, pixel_array=mask.astype(np.uint8), segmentation_type="BINARY",
            segment_descriptions=[segment], series_instance_uid=generate_uid(), series_number=100 + number,
            sop_instance_uid=generate_uid(), series_description=f"Segmentation of {title}", manufacturer_model_name="x",
            software_versions="1", device_serial_number="1", **made,
        )  # fmt: skip
        seg.save_as(folder / f"seg{number}.dcm")
        word = {1: "Highly Unlikely", 2: "Moderately Unlikely", 3: "Indeterminate", 4: "Moderately Suspicious",
                5: "Highly Suspicious"}[malignancy]  # fmt: skip
        rated = hd.sr.QualitativeEvaluation(
            name=hd.sr.CodedConcept("RID36042", "RadLex", "Malignancy"),
            value=hd.sr.CodedConcept(f"90{malignancy}", "99LIDCQIICR", f"{malignancy} out of 5 ({word} for Cancer)"),
        )
        sphericity = hd.sr.QualitativeEvaluation(
            name=hd.sr.CodedConcept("400", "99LIDCQIICR", "Sphericity"),
            value=hd.sr.CodedConcept("RID5799", "RadLex", "round"),
        )
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=uids[name], identifier=title),
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=seg.SOPClassUID, sop_instance_uid=seg.SOPInstanceUID, segment_number=1,
                source_series=hd.sr.SourceSeriesForSegmentation.from_source_image(sources[0]),
            ),
            finding_type=codes.SCT.Nodule, qualitative_evaluations=[sphericity, rated],
            finding_sites=[hd.sr.FindingSite(anatomic_location=codes.SCT.Lung)],
        )  # fmt: skip
        observer = hd.sr.ObserverContext(
            observer_type=codes.DCM.Person,
            observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="anonymous^observer"),
        )
        report = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_person_context=observer),
            procedure_reported=codes.LN.CTUnspecifiedBodyRegion, imaging_measurements=[group],
        )  # fmt: skip
        hd.sr.Comprehensive3DSR(
            evidence=[*sources, seg], content=report[0], series_number=200 + number, series_instance_uid=generate_uid(),
            sop_instance_uid=generate_uid(), is_complete=True, is_verified=True, is_final=True,
            verifying_observer_name="anonymous^observer", verifying_organization="x", **made,
        ).save_as(folder / f"sr{number}.dcm")  # fmt: skip
