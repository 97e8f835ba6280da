"""The threads of a process leave the cores to others while they wait, and are no more than its cores."""

import os
import subprocess
import sys

import pytest

from boxel.cores import COUNTS, WAITING, num_cores, share_cores, warn_if_busy

V1, V2 = "4:memory:/a\n3:cpu,cpuacct:/docker/b\n", "0::/user.slice/job\n"


def v1(group, quota):
    """The files of a group of version 1."""
    return {f"{group}/cpu.cfs_quota_us": f"{quota}\n", f"{group}/cpu.cfs_period_us": "100000\n"}


def write(root, groups, **files):
    """A file system that shows control groups."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def on_64_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)


@pytest.mark.usefixtures("on_64_cores")
@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        (V2, {}, 64),
        (V2, {"user.slice/job/cpu.max": "max 100000\n"}, 64),
        (V2, {"user.slice/job/cpu.max": "200000 100000\n"}, 2),
        (V2, {"user.slice/job/cpu.max": "max 100000\n", "user.slice/cpu.max": "150000 100000\n"}, 2),
        (V2, {"user.slice/job/cpu.max": "800000 100000\n", "user.slice/cpu.max": "150000 50000\n"}, 3),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9000000 100000\n"}, 64),
        (V1, v1("cpu,cpuacct", 400_000), 4),  # a container that does not see its own path
        (V1, v1("cpu,cpuacct/docker/b", 150_000), 2),
        (V1, v1("cpu,cpuacct/docker/b", -1), 64),
        (V1, v1("memory/a", 400_000), 64),
    ],
)
def test_no_more_cores_than_the_container_grants(tmp_path, groups, files, cores):
    root = write(tmp_path, groups, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert num_cores(root) == cores


def test_without_control_groups_all_cores_that_the_process_is_bound_to_count(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert num_cores(tmp_path) == 2
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert num_cores(tmp_path) == 7


@pytest.mark.usefixtures("on_64_cores")
def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    root = write(tmp_path, "0::/\n", **{"sys/fs/cgroup/cpu.max": "200000 100000"})
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    lowered = []
    monkeypatch.setattr("torch.set_num_threads", lowered.append)
    for given in ({"GOMP_SPINCOUNT": "7", "OMP_NUM_THREADS": "5"}, {"KMP_BLOCKTIME": "1"}, {}):
        with monkeypatch.context() as patch:
            patch.setattr("os.environ", dict(given))
            share_cores(root)
            added = {} if given else {"OMP_WAIT_POLICY": "passive"}
            assert os.environ == {**dict.fromkeys(COUNTS, "2"), **added, **given}
    assert lowered == [2, 2]


@pytest.mark.parametrize("first", ["boxel", "torch"])
def test_torch_does_as_it_is_asked(tmp_path, first):
    """Loaded first, it can still use fewer threads."""
    root = write(tmp_path, "0::/\n", **{"sys/fs/cgroup/cpu.max": "100000 100000"})
    code = f"import {first}, boxel.cores, pathlib; boxel.cores.share_cores(pathlib.Path({str(root)!r}));"
    code += "import torch; print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, *COUNTS)}
    environment["OMP_DISPLAY_ENV"] = "VERBOSE"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    if first == "boxel" and "GOMP_SPINCOUNT" in done.stderr:  # GNU's OpenMP, as torch has on Linux
        assert "GOMP_SPINCOUNT = '0'" in done.stderr


@pytest.mark.parametrize(
    ("stat", "threads", "told"),
    [("3000 1000 7\n", 2, True), ("5000 1000 7\n", 2, False), ("3000 1000 7\n", 1, False), (None, 2, False)],
)
def test_the_user_is_told_that_one_thread_costs_less_where_the_cores_are_busy(tmp_path, caplog, stat, threads, told):
    if stat:
        write(tmp_path, "", **{"proc/thread-self/schedstat": stat})
    warn_if_busy(threads, tmp_path)
    assert ["25% of its time; with OMP_NUM_THREADS=1" in message for message in caplog.messages] == [True] * told
