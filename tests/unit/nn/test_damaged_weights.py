"""Damaged files of pretrained weights: one error that names the file, at any byte."""

import random

import pytest
import torch

from boxel.nn.pretrained.files import read_weights


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "changed"])
def test_a_damaged_torch_file_is_read_or_refused_by_name(tmp_path, legacy, cut):
    file, rng = tmp_path / "weights.pth", random.Random(0)
    state = {"a.weight": torch.ones(3, 3), "b": {"bias": torch.zeros(2), "epoch": 3}}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    whole, said = file.read_bytes(), []
    for _ in range(150):
        content = bytearray(whole[: rng.randrange(len(whole))] if cut else whole)
        for _ in range(0 if cut else 3):
            content[rng.randrange(len(content))] = rng.randrange(256)
        file.write_bytes(content)
        try:
            read_weights(file)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all(message.startswith(f"{file}: ") for message in said)
