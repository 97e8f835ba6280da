"""The loader never hangs: a failing worker process raises an error that suggests a fix."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from boxel.datasets.formats import open_dataset
from boxel.loading import loader
from boxel.loading.loader import batches
from boxel.loading.sampler import PatchSampler, SamplerConfig
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.types import Instances, Sample


class Numbers:
    """Sample `k` holds `k` of case `ck`; `before` may do something else first, in the process that reads."""

    task, region = SimpleNamespace(input_channels=1), (4, 4)

    def __init__(self, before=lambda index: None):
        self.before = before

    def place(self, index):
        return f"c{index}", np.zeros(2)

    def __getitem__(self, index):
        self.before(index)
        image = np.full((1, 4, 4), index, np.float32)
        return Sample(image, np.zeros((4, 4)), Instances.empty(2), np.zeros((0, 2, 2), np.float32), f"c{index}")


def read(before, num_workers, num_steps=6):
    return [
        batch.images[:, 0, 0, 0].tolist()
        for batch in batches(Numbers(before), 2, 0, num_steps, num_workers=num_workers)
    ]


def die(index):
    if index == 5:
        time.sleep(1)  # until the batches before are used up
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_worker_is_an_error_within_ten_seconds(num_workers):
    start = time.perf_counter()
    with pytest.raises(RuntimeError, match=r"memory runs out.*fewer train\.num_workers or 0.*--shm-size"):
        read(die, num_workers)
    assert time.perf_counter() - start < 10


def test_also_in_a_thread_which_signals_do_not_reach():
    start, handler = time.perf_counter(), signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match=r"exited unexpectedly.*memory runs out"):
            pool.submit(read, die, 1).result()
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert time.perf_counter() - start < 10


def test_a_slow_worker_is_waited_for_and_a_hanging_one_is_not(monkeypatch):
    monkeypatch.setattr(loader, "POLL", 0.1)
    assert read(lambda index: time.sleep(0.2), 1, 2) == [[0, 1], [2, 3]]
    monkeypatch.setattr(loader, "PATIENCE", 0.3)
    with pytest.raises(RuntimeError, match=r"no batch for .* s; .*train\.num_workers"):
        read(lambda index: time.sleep(1), 1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_case_is_named(native, tmp_path, num_workers):
    store = prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)
    path = tmp_path / "work" / "cases" / "a.b2nd"
    path.write_bytes(path.read_bytes()[:100])
    sampler = PatchSampler(store, ["a"], store.task, SamplerConfig(), seed=0)
    with pytest.raises(ValueError, match=r"^case 'a', training sample 0: .*a\.b2nd: cannot be read.*prepare again$"):
        next(batches(sampler, 2, 0, 1, num_workers=num_workers))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_any_other_error_while_reading_names_the_case_too(num_workers):
    with pytest.raises(RuntimeError, match=r"case 'c0', training sample 0: integer"):
        read(lambda index: 1 // index, num_workers)


def no_more_processes(monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: (_ for _ in ()).throw(BlockingIOError("no more processes")))


def in_a_daemon(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)


@pytest.mark.parametrize("hinder", [no_more_processes, in_a_daemon])
def test_where_no_process_can_be_started_this_one_reads(monkeypatch, hinder):
    hinder(monkeypatch)
    with pytest.warns(UserWarning, match=r"cannot be started .* this process reads instead"):
        assert read(lambda index: None, 2, 2) == [[0, 1], [2, 3]]


def test_too_little_shared_memory_is_refused_with_the_remedy(monkeypatch, tmp_path):
    """Two workers hand over 5 batches of 8 patches of 64 x 128 x 128 voxels, image and label map: 320 MiB."""
    monkeypatch.setattr(loader, "SHARED", tmp_path)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    sampler = Numbers()
    sampler.region = (64, 128, 128)
    with pytest.raises(ValueError, match=r"320 MiB .* 64 MiB left; set train\.num_workers=0.*--shm-size=2g"):
        batches(sampler, 8, 0, 1, num_workers=2)
    assert torch.equal(next(batches(Numbers(), 2, 3, 4, num_workers=2)).images[:, 0, 0, 0], torch.tensor([6.0, 7.0]))
