"""Nothing that Boxel writes identifies a patient: each attribute that might has a marker, and no output has one."""

import zipfile

import numpy as np
import pytest

from boxel.export import list_formats
from tests.end_to_end.commands import boxel, set_words

pydicom = pytest.importorskip("pydicom", reason="the extra boxel[dicom] is not installed")
pytest.importorskip("highdicom", reason="the extra boxel[dicom] is not installed")

from unit.datasets.dicom_samples import SHAPE, write_segmentation, write_series  # noqa: E402

# DICOM PS3.15, table E.1-1 (basic profile): what may identify somebody and can hold a marker; UIDs are references.
IDENTIFYING = """
    AccessionNumber AcquisitionComments AcquisitionDate AcquisitionDeviceProcessingDescription
    AdditionalPatientHistory AdmissionID AdmittingDate AdmittingDiagnosesDescription Allergies BranchOfService
    CassetteID ClinicalTrialProtocolID ClinicalTrialSiteName ClinicalTrialSponsorName ClinicalTrialSubjectID
    CommentsOnThePerformedProcedureStep ConsultingPhysicianName ContentDate ContrastBolusAgent CountryOfResidence
    CurrentPatientLocation DateOfLastCalibration DerivationDescription DetectorID DeviceSerialNumber EthnicGroup
    FillerOrderNumberImagingServiceRequest GantryID ImageComments InstanceCreationDate InstitutionAddress
    InstitutionName InstitutionalDepartmentName InsurancePlanIdentification IssuerOfPatientID LastMenstrualDate
    MedicalAlerts MedicalRecordLocator MilitaryRank NameOfPhysiciansReadingStudy
    NamesOfIntendedRecipientsOfResults Occupation OperatorsName OtherPatientIDs OtherPatientNames PatientAddress
    PatientBirthDate PatientBirthName PatientComments PatientID PatientMotherBirthName PatientName
    PatientReligiousPreference PatientState PatientTelephoneNumbers PerformedLocation
    PerformedProcedureStepDescription PerformedProcedureStepID PerformedProcedureStepStartDate PerformedStationName
    PerformingPhysicianName PhysiciansOfRecord PlacerOrderNumberImagingServiceRequest PlateID ProtocolName
    ReasonForStudy ReferringPhysicianName RegionOfResidence RequestedProcedureComments RequestedProcedureDescription
    RequestedProcedureID RequestingPhysician RequestingService ResponsibleOrganization ResponsiblePerson
    ScheduledPerformingPhysicianName ScheduledProcedureStepDescription ScheduledProcedureStepID
    ScheduledProcedureStepLocation ScheduledProcedureStepStartDate ScheduledStationName SeriesDate SeriesDescription
    ServiceEpisodeDescription ServiceEpisodeID SpecialNeeds StationName StudyDate StudyDescription StudyID
    UserContentLabel
"""


def marker(number, name):
    """What only this attribute holds: a name, a date or a text, as it must."""
    kind = pydicom.datadict.dictionary_VR(name)
    return {"PN": f"MARK{number:03d}^Q", "DA": f"18{number:02d}0217"}.get(kind, f"MARK{number:03d}Q")


MARKERS = {name: marker(number, name) for number, name in enumerate(IDENTIFYING.split())}
# Of the patient and study modules (PS3.3, C.7.1.1 and C.7.2.1), by which an archive files an object with its images.
PERSON = {"PatientName", "PatientID", "PatientBirthDate"}
KEPT = PERSON | {"IssuerOfPatientID", "StudyDate", "StudyID", "AccessionNumber", "ReferringPhysicianName"}
SETTINGS = set_words((
    "train.steps=2", "train.validate_every=1", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity", "model.dense.min_score=0.0",
    "consolidate.min_score=0.0", "consolidate.max_detections=2",
))  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Four annotated series with a marker in each identifying attribute; patients differ in the ends of theirs."""
    root, rng = tmp_path_factory.mktemp("scans") / "data", np.random.default_rng(0)
    for case in range(4):
        uid, values = f"1.2.826.{case + 2}", MARKERS | {"PatientID": f"{MARKERS['PatientID']}{case}"}
        files = write_series(root / f"s{case}" / "ct", rng.integers(-900, 900, SHAPE).astype(np.int16), uid,
                             **values, Manufacturer="maker", StudyInstanceUID=f"1.2.826.9.{case}")  # fmt: skip
        mask = np.zeros(SHAPE, bool)
        mask[1:4, 6:20, 8:24] = True
        write_segmentation(root / f"s{case}" / "seg.dcm", files, {"lesion": mask})
    return root


def found_in(*folders):
    """Where each marker is: the attribute, and the files with it. Compressed archives are opened."""
    found = {}
    for file in (file for folder in folders for file in [folder, *folder.rglob("*")] if file.is_file()):
        content = file.read_bytes() + file.name.encode()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                content += b"".join(map(archive.read, archive.namelist()))
        for name, marker in MARKERS.items():
            if marker.encode() in content:
                found.setdefault(name, []).append(file)
    return found


@pytest.fixture(scope="module")
def outputs(scans, tmp_path_factory):
    """What the verbs write, and say."""
    out, said = tmp_path_factory.mktemp("outputs"), []
    formats = [name for name, form in list_formats().items() if form.write]

    def run(*words):
        end = boxel(*words)
        said.append(end.stdout + end.stderr)

    run("check", scans, "--fix", out / "fixed", "--list", "--html", "--preview", 2, "--out", out / "check")
    run("prepare", scans, "--out", out / "work", "--recipe", "retina_unet_small", *SETTINGS)
    run("train", out / "work", "--out", out / "run", "--recipe", "retina_unet_small", *SETTINGS)
    run("predict", out / "run", scans, "--out", out / "predictions", *(w for name in formats for w in ("--to", name)))
    run("convert", out / "predictions", "--from", "boxel", "--to", "dicom-sr", "--out", out / "converted")
    run("report", out / "run", "--predictions", out / "predictions", "--dataset", scans, "--out", out / "report.html")
    return out, said


def test_no_output_but_dicom_objects_identifies_a_patient(outputs):
    out, said = outputs
    objects = {file for file in out.rglob("*.dcm") if file.parent.name.startswith(("dicom-", "converted"))}
    found = {name: set(files) - objects for name, files in found_in(out).items()}
    assert {name: files for name, files in found.items() if files} == {}
    assert [name for name, marker in MARKERS.items() if marker in "".join(said)] == []


def test_dicom_objects_keep_the_patient_and_the_study_and_nothing_else(outputs):
    out, said = outputs
    found = found_in(*(out / "predictions").glob("dicom-*"), out / "converted")
    assert found.keys() == KEPT
    for file in (out / "predictions").glob("dicom-*/*.dcm"):
        assert found_in(file).keys() >= PERSON
    kept = "the DICOM objects keep the patient of their images"
    assert [text.count(kept) for text in said] == [0, 0, 0, 1, 1, 0]


def test_identifiers_are_kept_on_request(scans, tmp_path):
    boxel(
        "prepare", scans, "--out", tmp_path / "work", "--keep-identifiers", "--recipe", "retina_unet_small", *SETTINGS
    )
    assert found_in(tmp_path).keys() == {"PatientID"}
