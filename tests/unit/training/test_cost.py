"""What a training step costs: clocks and memory by device, in a process of its own that changes nothing here."""

import os
import random
import time

import numpy as np
import pytest
import torch

from boxel.training.child import in_child
from boxel.training.config import TrainConfig
from boxel.training.cost import Clock, Memory, measure_step
from boxel.training.made_up import MadeUp
from boxel.training.memory import OutOfMemoryError, explained
from tests.unit.builders import MODELS, make_task

CONFIG = TrainConfig(batch_size=2, accelerator="cpu")


def test_a_step_is_measured_and_no_random_state_changes():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    cost = measure_step(MadeUp(2), (), make_task(2, size=32), MODELS["retina_unet"], CONFIG)
    assert cost.voxels == 2 * 32 * 32
    assert 0 < cost.seconds < 60
    assert 2**20 < cost.libraries < cost.peak < 2**34
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002


def test_generated_patches_have_objects_with_masks_in_the_region_of_the_augmentation():
    task, config = make_task(3, size=16, context=0), CONFIG.model_copy(update={"steps": 2})
    batches = list(MadeUp(3).batches(task, config))
    assert len(batches) == 2
    [batch, _] = batches
    margin = config.augment.margin
    assert margin > 1
    assert batch.images.shape == (2, 1, *(16 + 2 * 2,) * 3)
    for objects, label_map in zip(batch.instances, batch.label_maps, strict=True):
        assert len(objects) == 3
        assert set(label_map.unique().tolist()) <= {0, 1, 2, 3}
        assert label_map.max() > 0
        assert (objects.boxes[:, 0] >= 0).all()
        assert (objects.boxes[:, 1] <= 20).all()
    without = next(MadeUp(1).batches(make_task(3, size=16, masks=False), config))
    assert not without.instances[0].has_mask.any()


class FakeDevice:
    """What torch offers for a device, with made-up bytes."""

    def __init__(self, *taken: int) -> None:
        self.taken, self.calls = iter(taken), []

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.calls.append("reset")

    def max_memory_reserved(self, device: torch.device) -> int:
        return next(self.taken)

    def driver_allocated_memory(self) -> int:
        return next(self.taken)


def test_the_peak_of_a_device_is_that_of_its_own_record_or_the_most_that_was_seen():
    cuda, mps = FakeDevice(5, 9), FakeDevice(7, 12, 3)
    memory = Memory(torch.device("cuda"), cuda)
    assert cuda.calls == ["reset"]
    assert [memory.peak(), memory.peak()] == [5, 9]
    memory = Memory(torch.device("mps"), mps)
    assert [memory.peak() for _ in range(3)] == [7, 12, 12]


def test_a_device_is_waited_for_before_its_time_is_read():
    device = FakeDevice()
    clock = Clock(torch.device("cuda"), device)
    time.sleep(0.02)
    assert clock.lap() >= 0.02
    assert device.calls == ["synchronize"] * 2


def test_the_clock_of_the_processor_counts_work_not_waiting():
    clock = Clock(torch.device("cpu"))
    time.sleep(0.3)
    assert clock.lap() < 0.1
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    assert clock.lap() >= 0.19


def kill_this_process() -> None:
    os.kill(os.getpid(), 9)


def fail(kind: str) -> None:
    if kind == "value":
        raise ValueError("no")
    if kind == "memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    raise KeyError(kind)


def test_what_happens_in_the_other_process_is_said():
    assert in_child(sorted, [2, 1]) == [1, 2]
    with pytest.raises(ValueError, match=r"^no$"):
        in_child(fail, "value")
    with pytest.raises(OutOfMemoryError, match="can't allocate memory"):
        in_child(fail, "memory")
    with pytest.raises(RuntimeError, match="runs fail failed: KeyError: 'other'"):
        in_child(fail, "other")
    with pytest.raises(OutOfMemoryError, match="ended the process"):
        in_child(kill_this_process)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ..."),
        RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
        MemoryError(),
        OutOfMemoryError("the system ended the process"),
    ],
)
def test_running_out_of_memory_says_what_to_change(error, tmp_path):
    with (
        pytest.raises(
            ValueError, match=r"run: the memory ran out .* 2 patches of 64x64 per step .*plan\.memory"
        ) as said,
        explained(tmp_path / "run", "2 patches of 64x64"),
    ):
        raise error
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 400 + len(str(tmp_path))


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explained(tmp_path, ""):
        raise RuntimeError("shapes differ")
