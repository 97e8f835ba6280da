"""Headers that promise more than there is, and files that unpack to more than they say: refused without memory."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from boxel.io import read_image
from boxel.io.apart import apart
from boxel.io.claims import check_claim
from boxel.io.dicom_lengths import promises_too_much

ATTACKS = r"""
import gzip, json, re, struct, sys, zlib
from pathlib import Path
import numpy as np
from boxel.io import read_image, write_image
from boxel.types import Geometry, Image

root, messages = Path(sys.argv[1]), {}
small = Image(np.zeros((1, 4, 5, 6), np.int16), Geometry.plain((4, 5, 6)))

def attempt(name, content):
    (root / name).write_bytes(content)
    try:
        read_image(root / name)
        messages[name] = "read"
    except ValueError as error:
        messages[name] = str(error)

def plain(name):
    write_image(root / name, small, compress=False)
    return (root / name).read_bytes()

nifti = bytearray(plain("a.nii"))
huge = bytes(nifti[:42]) + struct.pack("<3h", 3000, 3000, 1000) + bytes(nifti[48:])
(root / "a.nii").unlink()
attempt("huge.nii", huge)
attempt("packed.nii.gz", gzip.compress(huge))
squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
bomb = [squeezed.compress(bytes(nifti))] + [squeezed.compress(bytes(1 << 20)) for _ in range(3000)] + [squeezed.flush()]
attempt("bomb.nii.gz", b"".join(bomb))
for name, old in (("plain.mha", b"DimSize = 6 5 4"), ("plain.nrrd", b"sizes: 6 5 4")):
    content = plain(name)
    assert old in content
    attempt(name, content.replace(b" 6 5 4", b" 3000 3000 1000"))
write_image(root / "packed.mha", small)
content = (root / "packed.mha").read_bytes()
attempt("packed.mha", content.replace(b"DimSize = 6 5 4", b"DimSize = 3000 3000 1000"))
attempt("doubled.mha", content.replace(b"DimSize = 6 5 4", b"DimSize = 6 5 8"))
peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"messages": messages, "peak": int(peak[1])}))
"""


def test_no_header_and_no_bomb_takes_memory(tmp_path):
    """Headers of 17 GiB and 3 GB of zeros in 3 MB, read by a process whose peak memory is looked at."""
    run = subprocess.run([sys.executable, "-c", ATTACKS, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    for name, message in result["messages"].items():
        assert re.search(rf"{name}: .*(cut short|more than its header|claims)", message), (name, message)
    assert result["peak"] < 1_000_000  # KiB


def test_headers_with_their_voxels_in_other_files_are_read(tmp_path, rng):
    """The voxels count where they are, also those of a list of files."""
    array = rng.integers(-9, 9, (4, 5, 6)).astype(np.int16)
    for number, plane in enumerate(array):
        (tmp_path / f"p{number}.raw").write_bytes(plane.tobytes())
    (tmp_path / "all.raw").write_bytes(array.tobytes())
    head = "NDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementDataFile = "
    (tmp_path / "one.mhd").write_text(head + "all.raw\n")
    (tmp_path / "list.mhd").write_text(head + "LIST\n" + "".join(f"p{number}.raw\n" for number in range(4)))
    for name in ("one.mhd", "list.mhd"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array[0], array)
    (tmp_path / "all.raw").write_bytes(array.tobytes()[:100])
    with pytest.raises(ValueError, match="cut short"):
        read_image(tmp_path / "one.mhd")


def test_a_dicom_header_that_promises_gigabytes_is_refused(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from .dicom_samples import write_series

    files = write_series(tmp_path / "rows", np.zeros((2, 32, 40), np.int16))
    for file in files:
        data = pydicom.dcmread(file)
        data.Rows = data.Columns = 60_000
        data.save_as(file)
    (frames,) = write_series(tmp_path / "frames", np.zeros((1, 32, 40), np.int16))
    data = pydicom.dcmread(frames)
    data.Rows, data.Columns, data.NumberOfFrames = 2048, 2048, 2000
    data.save_as(frames)
    for name in ("rows", "frames"):
        with pytest.raises(ValueError, match=r"\.dcm: the file is cut short: its header claims"):
            read_image(tmp_path / name)


def test_no_flipped_byte_of_a_dicom_header_takes_memory_or_hides_the_file(tmp_path, monkeypatch):
    """Lengths above all: a decoder would allocate gigabytes for a file of three kilobytes."""
    pytest.importorskip("pydicom")
    from .dicom_samples import write_series

    own: list = []  # processes that no other test made large
    monkeypatch.setattr(sys.modules["boxel.io.apart"], "_idle", own)
    (file,) = write_series(tmp_path / "a", np.zeros((1, 32, 40), np.int16))
    content = file.read_bytes()
    outcomes = {"read": 0, "refused": 0}
    for place in range(132, content.index(b"\xe0\x7f\x10\x00") + 12):
        for value in {0xFF, content[place] ^ 1} - {content[place]}:
            file.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                read_image(file)
                outcomes["read"] += 1
            except ValueError as error:
                outcomes["refused"] += 1
                assert str(error).startswith(f"{file}: "), error  # noqa: PT017
                assert "ended the process" not in str(error), error  # noqa: PT017
    assert min(outcomes.values()) > 99
    assert apart(file, peak) < 400_000  # KiB
    own[0].end()


def peak():
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


@pytest.mark.parametrize("syntax", ["ImplicitVRLittleEndian", "ExplicitVRLittleEndian"])
def test_lengths_are_followed_into_sequences(syntax, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from .dicom_samples import write_series

    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    inner.CodeMeaning = "something"
    outer.ConceptCodeSequence = [inner, pydicom.Dataset()]
    (file,) = write_series(tmp_path / "a", np.zeros((1, 4, 5), np.int16))
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = uid = getattr(pydicom.uid, syntax)
    data.ProcedureCodeSequence = [outer]
    pydicom.dcmwrite(file, data, implicit_vr=uid.is_implicit_VR, little_endian=True)
    content = file.read_bytes()
    assert not promises_too_much(file, uid.encode())
    place = content.index(b"something") - (4 if uid.is_implicit_VR else 2)
    file.write_bytes(content[:place] + b"\xfe\xff" + content[place + 2 :])
    assert promises_too_much(file, uid.encode())
    assert not promises_too_much(file, b"1.2.840.10008.1.2.1.99")  # deflated
    with pytest.raises(ValueError, match="this DICOM image is damaged"):
        read_image(tmp_path / "a")


def test_the_memory_of_a_container_is_the_limit(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1000\n")
    monkeypatch.setattr("boxel.inputs.memory.LIMITS", (tmp_path / "no such file", limit))
    monkeypatch.setattr("boxel.io.claims.SMALL", 0)
    check_claim(Path("a.nii"), 499, 499)
    with pytest.raises(ValueError, match="too many for 1000 bytes of memory"):
        check_claim(Path("a.nii"), 501, 501)
    limit.write_text("max\n")
    check_claim(Path("a.nii"), 501, 501)
