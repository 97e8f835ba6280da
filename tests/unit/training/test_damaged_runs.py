"""Damaged files of a run: one clear error that names the file, what is wrong and what to do; no traceback."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from boxel.api.run import read_history
from boxel.training.checkpoints import best_checkpoint, load_resume, read_ranking, save_resume
from boxel.training.log import MetricsLog
from boxel.training.optimise import MovingAverage
from boxel.training.tensors import load_weights, save_tensors
from tests.unit.builders import MODELS, make_task


def empty(file, _):
    file.write_bytes(b"")


def truncated(file, _):
    file.write_bytes(file.read_bytes()[:-7])


def cut_in_the_header(file, _):
    file.write_bytes(file.read_bytes()[:40])


def no_tensors(file, _):
    file.write_bytes(b"not tensors, but a text that is longer than a header")


def huge_header(file, _):
    file.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def not_a_number(file, _):
    change(file, lambda tensors: next(iter(tensors.values())).view(-1)[0].fill_(float("nan")))


def infinite(file, _):
    change(file, lambda tensors: next(iter(tensors.values())).view(-1)[0].fill_(float("inf")))


def other_names(file, _):
    change(file, lambda tensors: tensors.update(strange=tensors.pop(next(iter(tensors)))))


def other_shapes(file, _):
    def narrow(tensors):
        name = next(name for name, value in tensors.items() if value.ndim and value.shape[-1] > 1)
        tensors[name] = tensors[name][..., :1].contiguous()

    change(file, narrow)


def missing(file, _):
    file.unlink()


def change(file, how):
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    how(tensors)
    save_file(tensors, file, {"step": "3"})


PROBLEMS = {
    empty: "the file is empty",
    truncated: "not a readable safetensors file",
    cut_in_the_header: "not a readable safetensors file",
    no_tensors: "not a readable safetensors file",
    huge_header: "not a readable safetensors file",
    not_a_number: "1 of .* tensors, such as .*, have values that are not finite",
    infinite: "1 of .* tensors, such as .*, have values that are not finite",
    other_names: "1 missing, such as .*; 1 surplus, such as strange",
    other_shapes: "1 of another shape, such as ",
}


@pytest.mark.parametrize("damage", [*PROBLEMS, missing])
def test_weights_that_are_damaged_are_refused(ndim, tmp_path, damage):
    model = MODELS["retina_net"].build(make_task(ndim))
    file = tmp_path / "weights.safetensors"
    save_tensors(file, model.state_dict())
    damage(file, model)
    with pytest.raises(ValueError, match=rf"{file}: .*{PROBLEMS.get(damage, 'no such file')}") as error:
        load_weights(model, file)
    assert "put back" in str(error.value)
    assert "\n" not in str(error.value)


def training(width: int = 2) -> tuple:
    model = torch.nn.Linear(width, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return model, optimizer, MovingAverage(model, 0.9), torch.amp.GradScaler("cpu", enabled=False)


@pytest.mark.parametrize("damage", PROBLEMS)
def test_a_saved_state_that_is_damaged_is_refused(tmp_path, damage):
    save_resume(tmp_path, 3, *training())
    damage(tmp_path / "resume.safetensors", None)
    with pytest.raises(ValueError, match=r"resume\.safetensors: .*delete it to train from the beginning") as error:
        load_resume(tmp_path, *training())
    assert "\n" not in str(error.value)


def drop_step(tensors, metadata):
    metadata.clear()


def wordy_step(tensors, metadata):
    metadata["step"] = "third"


def surplus_slot(tensors, metadata):
    tensors["optimizer/9/exp_avg"] = torch.zeros(1)


def nameless_slot(tensors, metadata):
    tensors["optimizer/first"] = torch.zeros(1)


def wide_slot(tensors, metadata):
    tensors["optimizer/0/exp_avg"] = torch.zeros(3, 3)


@pytest.mark.parametrize("spoil", [drop_step, wordy_step, surplus_slot, nameless_slot, wide_slot])
def test_a_saved_state_of_another_training_is_refused(tmp_path, spoil):
    save_resume(tmp_path, 3, *training())
    tensors, metadata = load_file(tmp_path / "resume.safetensors"), {"step": "3"}
    spoil(tensors, metadata)
    save_file(tensors, tmp_path / "resume.safetensors", metadata)
    with pytest.raises(ValueError, match=r"resume\.safetensors: not the state of this training"):
        load_resume(tmp_path, *training())


LINES = [
    '{"step": 1, "loss": 2.0, "seconds": 1.5}',
    '{"step": 2, "loss": 1.0}',
    "",
    "null",
    "[1, 2]",
    '"text"',
    '{"loss": 1.0}',
    '{"step": "3", "loss": 1.0}',
    '{"step": NaN}',
    '{"step": 1' + 399 * "0" + "}",
    '{"step": 1' + 4999 * "0" + "}",
    20_000 * "[",
    "\x00\x00\x00",
    '{"step": 4, "loss": null, "seconds": "long", "lr": 1' + 399 * "0" + "}",
    '{"step": 5, "seconds": 9.0}',
    '{"step": 6, "lo',
]


def test_damaged_lines_of_a_log_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(LINES).encode() + b"\n\xff\xfe")
    assert read_history(tmp_path) == [
        {"step": 1, "loss": 2.0, "seconds": 1.5},
        {"step": 2, "loss": 1.0, "seconds": 1.5},
        {"step": 4, "seconds": 1.5},
        {"step": 5, "seconds": 9.0},
    ]
    assert MetricsLog(tmp_path / "metrics.jsonl", last_step=4).seconds == 1.5
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [LINES[0], LINES[1], LINES[13]]


def test_a_line_cut_by_a_kill_is_dropped_from_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    MetricsLog(path, last_step=1)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


@pytest.mark.parametrize(
    "content", [3, {"a": 1}, ["a"], [{"step": -1, "score": 0.5, "file": "x"}], [None]], ids=json.dumps
)
def test_a_damaged_ranking_is_refused(tmp_path, content):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ranking.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"ranking\.json: "):
        read_ranking(tmp_path)


@pytest.mark.parametrize("content", ["[]", None])
def test_a_finished_training_without_any_checkpoint_names_the_record(tmp_path, content):
    (tmp_path / "checkpoints").mkdir()
    if content:
        (tmp_path / "checkpoints" / "ranking.json").write_text(content)
    with pytest.raises(ValueError, match=r"checkpoints/ranking\.json: names no checkpoint"):
        best_checkpoint(tmp_path)
