"""A decoder that dies, hangs or takes all memory is an error that names the file, and costs nothing but that file."""

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture

from boxel.io import claims, list_series, pictures, read_image, read_label_map, read_layout, read_series
from boxel.io.apart import DIRECTLY, apart, now_reading

if sys.platform == "win32":
    pytest.skip("no signals", allow_module_level=True)
reading = sys.modules["boxel.io.apart"]  # whose name in the package is that of its function


def die(file=None):
    if file is not None:
        now_reading(file)
    os.kill(os.getpid(), signal.SIGSEGV)


def take(count, claimed=0):
    claims.on_claim(claimed)
    return len(np.ones(count, np.uint8))


def fail(kind):
    print("what a decoder prints")
    raise kind("bad header")


def number():
    return os.getpid()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Picture.fromarray(np.arange(3000, dtype=np.uint8).reshape(20, 50, 3)).save(path)
    return path


@pytest.fixture
def alone(monkeypatch):
    """Processes that this test shares with no other."""
    own: list = []
    monkeypatch.setattr(reading, "_idle", own)
    yield own
    for reader in own:
        reader.end()


def test_a_result_comes_back_whole_from_a_process_that_is_used_again(picture, rng):
    array = rng.normal(size=(3, 40, 50))
    for value in (array, array[:, ::2], array.T, array[:0], array.astype(np.int8)):
        found = apart(picture, np.asarray, value)
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
    assert apart(picture, np.copy, array).flags.writeable
    first = apart(picture, number)
    assert first != os.getpid()
    assert apart(picture, number) == first


def test_threads_do_not_wait_for_each_other(picture):
    with ThreadPoolExecutor(3) as pool:
        barrier = threading.Barrier(3)

        def task(_):
            barrier.wait()
            return read_image(picture).array.sum(), apart(picture, time.sleep, 0.2), apart(picture, number)

        results = list(pool.map(task, range(3)))
    assert len({result[0] for result in results}) == 1
    assert len({result[2] for result in results}) > 1


def test_a_death_names_the_file_and_the_next_one_is_read(picture, tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: this file ended the process that read it \(.+\); copy or export it"):
        apart(picture, die)
    other = tmp_path / "other.dcm"
    with pytest.raises(ValueError, match=r"other\.dcm: this file ended"):
        apart(picture, die, other)
    with pytest.raises(ValueError, match=r"a\.png: this file ended"):  # the note of the file before is gone
        apart(picture, die)
    assert read_image(picture).array.shape == (3, 20, 50)


def test_a_process_that_was_ended_meanwhile_is_replaced_in_silence(picture, alone):
    read_image(picture)
    alone[0].process.kill()
    alone[0].process.wait()
    assert read_image(picture).array.shape == (3, 20, 50)


def test_a_hang_ends_after_a_time_that_grows_with_the_file(picture, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "SECONDS", 0.3)
    with pytest.raises(ValueError, match=r"a\.png: this file was not read within 0 s"):
        apart(picture, time.sleep, 30)
    (tmp_path / "large").write_bytes(bytes(10 << 20))
    assert apart(tmp_path / "large", time.sleep, 0.5) is None
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert apart(tmp_path, time.sleep, 0.5) is None  # the size of a folder is that of its files


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_memory_is_limited_by_what_a_checked_header_claims(picture, alone):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="too much memory"):
            apart(picture, take, 2 << 30)
        assert apart(picture, take, 1500 << 20, 100 << 20) == 1500 << 20


def test_errors_keep_their_kind_as_far_as_callers_tell_them_apart(picture, capfd):
    with pytest.raises(ValueError, match="bad header"):
        apart(picture, fail, UnicodeError)
    for kind in (OSError, KeyError, RuntimeError, SyntaxError):
        with pytest.raises(RuntimeError, match="bad header"):
            apart(picture, fail, kind)
    assert capfd.readouterr() == ("", "")


def test_everything_runs_in_one_process_for_a_debugger(picture, monkeypatch):
    monkeypatch.setenv(DIRECTLY, "1")
    assert apart(picture, number) == os.getpid()
    assert read_image(picture).array.shape == (3, 20, 50)


def test_a_process_that_cannot_start_says_why(picture, monkeypatch, alone):
    monkeypatch.setattr(reading, "START", "raise ImportError('no such library')")
    with pytest.raises(RuntimeError, match="did not start: ImportError: no such library"):
        apart(picture, number)


DYING = "import os; from boxel.io import dicom, pictures, png; die = lambda *_, **__: os.abort(); " + "; ".join(
    f"{name} = die"
    for name in (
        "png.read",
        "pictures.read",
        "pictures.read_layout",
        "pictures.read_embedded",
        "dicom.read_series",
        "dicom.list_series",
    )
)

SCRIPT = """
import sys, os
from pathlib import Path
from boxel.io import read_image
read_image(Path(sys.argv[1]))
(reader,) = sys.modules["boxel.io.apart"]._idle
print(reader.process.pid, flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), 9)
if sys.argv[2] == "fork" and os.fork() == 0:
    read_image(Path(sys.argv[1]))
    (own,) = sys.modules["boxel.io.apart"]._idle
    os._exit(reader.process.pid == own.process.pid)
if sys.argv[2] == "fork":
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize("end", ["normal", "kill", "fork"])
def test_no_process_outlives_the_one_that_asks_and_none_serves_two(picture, end, tmp_path):
    (tmp_path / "pickle.py").write_text("raise SystemExit('a file of strangers was imported')")
    run = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(picture), end], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == (-9 if end == "kill" else 0), run.stderr
    number = int(run.stdout)
    for _ in range(100):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the process is still there")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_no_flipped_byte_of_a_picture_does_more_than_an_error_that_names_the_file(suffix, rng, tmp_path):
    path = tmp_path / f"x{suffix}"
    Picture.fromarray(rng.integers(0, 9, (6, 7, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    for place in range(min(len(content), 160)):
        for value in {content[place] ^ 1, int(rng.integers(256))} - {content[place]}:
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            for read in (read_image, read_label_map, read_layout):
                try:
                    read(path)
                except ValueError as error:
                    assert str(error).startswith(f"{path}: "), error  # noqa: PT017


def test_a_decoder_that_dies_is_an_error_of_every_reader(picture, tmp_path, monkeypatch, alone):
    monkeypatch.setattr(reading, "START", reading.START.replace("serve()", f"{DYING}; serve()"))
    webp = tmp_path / "b.png"
    webp.write_bytes(b"RIFF....WEBP")
    series = tmp_path / "series"
    series.mkdir()
    calls = [(read_image, picture), (read_layout, webp), (read_image, series), (read_series, series)]
    for read, path in [*calls, (list_series, series)]:
        with pytest.raises(ValueError, match=f"{path.name}: this file ended the process"):
            read(path)
    with pytest.raises(ValueError, match="ended the process"):
        apart(picture, pictures.read_embedded, b"")


@pytest.mark.parametrize("kind", ["png", "deep.png"])
def test_a_large_picture_has_the_memory_that_its_header_claims(kind, tmp_path, monkeypatch, alone):
    scarce = "import sys; sys.modules['boxel.io.apart'].ROOM = 1 << 26; serve()"
    monkeypatch.setattr(reading, "START", reading.START.replace("serve()", scarce))
    path = tmp_path / f"x.{kind}"
    shape = (3000, 4000, 3)  # 36 or 72 MB, several times as it is decoded
    if kind == "png":
        Picture.fromarray(np.zeros(shape, np.uint8)).save(path, compress_level=1)
    else:
        path.write_bytes(imagecodecs.png_encode(np.zeros(shape, np.uint16), level=1))
    assert read_image(path).array.shape == (3, 3000, 4000)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") + (2_900).to_bytes(4, "big")  # within pillow's own limit
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content[:2000])
    with pytest.raises(ValueError, match=f"x.{kind}: the file is cut short"):
        read_image(path)
