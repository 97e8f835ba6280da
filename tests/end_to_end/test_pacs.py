"""`boxel predict dicomweb://...`: from a PACS, and with `--send` back into it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import requests

import boxel
from boxel.api.pacs import fetched
from tests.end_to_end.commands import boxel as run_boxel
from tests.end_to_end.orthanc import found, gateway, needs_orthanc, orthanc, stored
from tests.forks import Command
from unit.export.dciodvfy import object_in

hd = pytest.importorskip("highdicom", reason="the extra boxel[dicom] is not installed")
pydicom = pytest.importorskip("pydicom")

from unit.datasets.dicom_samples import write_series  # noqa: E402

pytestmark = needs_orthanc
STUDY, SERIES, SLICES, PATIENT = "1.2.826.1", "1.2.826.2", 6, b"LIDC-IDRI-0001"
SETTINGS = (
    "train.steps=2", "train.validate_every=1", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity", "model.dense.min_score=0.0",
    "consolidate.min_score=0.0", "consolidate.max_detections=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A hardly trained run on volumes."""
    root = tmp_path_factory.mktemp("run")
    boxel.make_toy(root / "data", num_train=2, num_val=1, num_test=1, ndim=3, size=32)
    boxel.prepare(root / "data", root / "work", recipe="retina_unet_small", overrides=SETTINGS, workers=0)
    return boxel.train(root / "work", root / "run", recipe="retina_unet_small", overrides=SETTINGS)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    """A PACS with a CT series and nothing else."""
    with orthanc(tmp_path_factory.mktemp("pacs")) as server:
        values = np.random.default_rng(0).integers(-1000, 1000, (SLICES, 32, 40)).astype(np.int16)
        for file in write_series(tmp_path_factory.mktemp("ct"), values, SERIES, StudyInstanceUID=STUDY):
            requests.post(f"http://{server}/instances", file.read_bytes(), timeout=30).raise_for_status()
        yield server


def study_at(server, uid=STUDY, scheme="dicomweb", login=""):
    return f"{scheme}://{login}{server}/dicom-web/studies/{uid}"


def files_in(*folders):
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()]


def test_a_study_is_fetched_and_predicted_and_its_results_are_in_the_pacs(run, pacs, tmp_path, monkeypatch):
    out, temporary, words = tmp_path / "out", tmp_path / "tmp", ("--to", "dicom-sr", "--to", "dicom-seg", "--send")
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    end = run_boxel("predict", run, study_at(pacs), "--out", out, *words)
    written = {pydicom.dcmread(file).SOPInstanceUID: file for name in words[1:4:2] for file in (out / name).iterdir()}
    assert f"sent {len(written)} DICOM objects to http://{pacs}/dicom-web" in end.stdout
    modalities = found(pacs, STUDY)
    assert {uid for uid, modality in modalities.items() if modality != "CT"} == written.keys()
    for uid in written:
        (copy := tmp_path / "copy.dcm").write_bytes(stored(pacs, uid))
        if shutil.which("dciodvfy"):
            assert object_in(copy) == {"SR": "Comprehensive3DSR", "SEG": "Segmentation"}[modalities[uid]]
        if modalities[uid] == "SR":
            groups = hd.sr.srread(copy).content.get_volumetric_roi_measurement_groups()
            found_there = json.loads((out / f"{SERIES}.json").read_text())["detections"]
            assert len(groups) == sum(one["above"] for one in found_there)
        else:
            assert len(hd.seg.segread(copy).get_source_image_uids()) == SLICES
    assert all(PATIENT not in file.read_bytes() for file in files_in(out, temporary) if file not in written.values())
    again = run_boxel("predict", run, study_at(pacs), "--out", out, *words)  # the same images, and UIDs
    assert f"sent {len(written)} DICOM objects" in again.stdout
    assert found(pacs, STUDY) == modalities


def test_a_killed_download_goes_on_and_an_ended_one_leaves_nothing(run, pacs, tmp_path):
    out, words = tmp_path / "out", ("predict", run, study_at(pacs), "--out", tmp_path / "out")

    def start():
        command = Command(*words)
        while len(list((out / ".boxel.fetched").glob("*/*.dcm"))) < 3:
            assert not command.poll()
            time.sleep(0.001)
        return command

    command = start()
    command.kill()
    command.wait()
    partial = {file: file.stat().st_ino for file in files_in(out / ".boxel.fetched") if file.suffix == ".dcm"}
    with fetched(study_at(pacs) + f"/series/{SERIES}", out) as study:
        assert study.folder.stat().st_mode & 0o777 == 0o700
        files = {file: file.stat().st_ino for file in files_in(study.folder)}
        assert (len(files), files.items() >= partial.items()) == (SLICES, True)
    assert not study.folder.exists()
    command = start()
    os.kill(command.pid, signal.SIGTERM)
    command.wait()
    assert all(PATIENT not in file.read_bytes() for file in files_in(out))


@pytest.mark.parametrize(
    ("server", "uid", "says"),
    [
        ({}, "1.9", "/dicom-web/studies/1.9: the server has no such study; check the UID"),
        ({}, f"{STUDY}/series/1.5", "/series/1.5: the server has no such series; check the UID"),
        ({"login": "mia:sec-ret"}, STUDY, "may not be searched by this user (status 401 Unauthorized); set BOXEL_"),
        ({"status": {"GET": 404}}, STUDY, "cannot be searched (status 404 Not Found); check the address"),
        ({"status": {"GET": 200}, "answer": b"<html>"}, STUDY, "is no DICOMweb server (Expecting value"),
        ({"status": {"GET": 200}, "answer": b"[{}]"}, STUDY, "has no such study"),
    ],
)
def test_what_the_server_refuses_is_said_in_one_message(pacs, tmp_path, server, uid, says):
    with (
        gateway(pacs, **server) as address,
        pytest.raises(ValueError, match=re.escape(says)),
        fetched(study_at(address, uid), tmp_path / "out"),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_without_a_server_the_message_names_it(run, tmp_path):
    end = run_boxel("predict", run, study_at("localhost:9"), "--out", tmp_path / "out", check=False)
    assert (end.returncode, end.stdout, end.stderr.strip().count("\n")) == (2, "", 0)
    assert "http://localhost:9/dicom-web: no server answers" in end.stderr
    assert not (tmp_path / "out").exists()


def test_a_pacs_that_may_not_be_written_to_leaves_the_results_here(run, pacs, tmp_path):
    with gateway(pacs, status={"POST": 403}) as server:
        words = ("predict", run, study_at(server), "--out", tmp_path / "out", "--to", "dicom-sr", "--send")
        end = run_boxel(*words, check=False)
    assert end.returncode == 2
    assert "may not be written to by this user (status 403 Forbidden)" in end.stderr
    assert (tmp_path / "out" / "dicom-sr" / f"{SERIES}_sr.dcm").exists()
    assert not (tmp_path / "out" / ".boxel.fetched").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["scans", "--send", "--to", "dicom-sr"], "--send: needs a study at dicomweb://; add it"),
        (["dicomweb://x/studies/1", "--send"], "--send: needs at least one DICOM format, such as --to dicom-sr"),
        (["dicomweb://x/studies/1", "scans"], "one study is predicted in a call, without other images"),
        (["dicomweb://mia:sec-ret@x/1.2"], "dicomweb://x/1.2: is no address of a study; write dicomweb://HOST:PORT"),
        (["dicomweb://x:port/studies/1"], "is no address of a study"),
    ],
)
def test_wrong_addresses_are_refused_first(run, tmp_path, words, says):
    end = run_boxel("predict", run, *words, "--out", tmp_path / "out", check=False)
    assert (end.returncode, says in end.stderr, "sec-ret" in end.stderr) == (2, True, False)
    assert not (tmp_path / "out").exists()


def test_users_and_certificates(pacs, tmp_path, monkeypatch, capfd):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *files]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "both.pem").write_text((tmp_path / "cert.pem").read_text() + (tmp_path / "key.pem").read_text())
    with gateway(pacs, login="mia:sec-ret", certificate=tmp_path / "both.pem") as server:

        def fetch(login=""):
            with fetched(study_at(server, STUDY, "dicomwebs", login), tmp_path / "out") as study:
                return len(files_in(study.folder))

        with pytest.raises(ValueError, match=r"cannot be trusted \(.*; name the file .* in REQUESTS_CA_BUNDLE"):
            fetch()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        for login in ("", "mia:wrong-sec-ret@"):
            with pytest.raises(ValueError, match="status 401") as refused:
                fetch(login)
            assert "sec-ret" not in str(refused.value)
        assert fetch("mia:sec-ret@") == SLICES
        with monkeypatch.context() as environment:
            environment.setenv("BOXEL_DICOMWEB_USER", "mia")
            environment.setenv("BOXEL_DICOMWEB_PASSWORD", "sec-ret")
            assert fetch() == SLICES
        (tmp_path / "netrc").write_text("machine localhost login mia password sec-ret")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert fetch() == SLICES
    assert "sec-ret" not in "".join(capfd.readouterr())
    assert list((tmp_path / "out").iterdir()) == []
