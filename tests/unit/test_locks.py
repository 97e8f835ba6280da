"""One process at a time works in a folder; the next knows who does, and takes over what a killed one left."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from boxel import locks
from boxel.locks import LOCK, LockedError, is_locked, locked
from boxel.processes import machine

HOLD = """
import pathlib, sys, time
from boxel.locks import locked
with locked(pathlib.Path(sys.argv[1]), "boxel predict"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_second_process_says_who_works_there_since_when(tmp_path, holder):
    words = rf"in use by `boxel predict` \(process {holder.pid} on .+\) since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    with pytest.raises(LockedError, match=words):
        locked(tmp_path, "boxel predict").__enter__()
    assert is_locked(tmp_path)


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path, holder):
    holder.kill()  # not waited for: the system still lists it
    while is_locked(tmp_path):
        time.sleep(0.01)
    with locked(tmp_path, "boxel predict"):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_number_that_a_later_process_got_does_not_hold_a_lock(tmp_path):
    record = {"machine": machine(), "process": os.getpid(), "started": "1"}
    (tmp_path / LOCK).write_text(json.dumps(record))
    with locked(tmp_path, "boxel predict"):
        pass


@pytest.mark.parametrize(
    "content", ['{"machine": "another", "process": 1, "host": "ward7\\u001b[2J"}', "", "[]", '{"a": 1}']
)
def test_another_machine_holds_a_lock_as_long_as_it_gives_signs_of_life(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(LockedError, match=r"(ward7\\x1b\[2J|unknown machine).*is free 3 minutes later"):
        locked(tmp_path, "boxel predict").__enter__()
    os.utime(tmp_path / LOCK, (time.time() - 181,) * 2)
    with locked(tmp_path, "boxel predict"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with locked(tmp_path, "boxel predict"):
        os.utime(tmp_path / LOCK, (0, 0))
        while not (tmp_path / LOCK).stat().st_mtime:
            time.sleep(0.01)


def test_of_many_that_find_a_left_over_lock_one_at_a_time_holds_it(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"machine": machine(), "process": 2**22 + 1}))
    inside, most = [], []

    def work():
        with locked(tmp_path, "boxel predict", patience=60):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    assert not list(tmp_path.iterdir())


def test_a_lock_works_where_files_cannot_be_linked(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    with locked(tmp_path, "boxel predict"), pytest.raises(LockedError, match="in use by `boxel predict`"):
        locked(tmp_path, "boxel predict").__enter__()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_taken_over_is_not_removed_by_the_first_holder(tmp_path):
    with locked(tmp_path, "boxel predict"):
        (tmp_path / LOCK).write_text('{"machine": "another"}')
    assert (tmp_path / LOCK).exists()


def test_later_processes_of_one_training_leave_the_lock_to_the_first(tmp_path, monkeypatch):
    with locked(tmp_path, "boxel train"):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with locked(tmp_path, "boxel train"):
            pass
        monkeypatch.delenv("LOCAL_RANK")
