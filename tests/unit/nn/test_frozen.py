"""Levels that keep their weights: only those that a file gives; a suggested setting keeps them frozen."""

import pytest

from boxel.api.training import pretrained_parts
from boxel.nn import ResNetConfig
from tests.unit.builders import MODELS, make_task
from tests.unit.nn.test_pretrained import SMALL, load, refusal, saved
from tests.unit.nn.weight_files import resnet_state


def test_levels_that_the_file_lacks_are_not_frozen_at_random(tmp_path):
    file, frozen = saved(resnet_state(), tmp_path / "w.pth"), ResNetConfig(depth=18, **SMALL, frozen=2)
    load(frozen, file, 2, channels=1, levels=5)
    with pytest.raises(ValueError, match=r"C0 and C1 .* not in the file, so model\.backbone\.frozen=2 .*frozen=0"):
        load(frozen, file, 2, channels=1, levels=5, c0=True)


def test_levels_without_a_file_of_weights_are_not_frozen_at_random(ndim):
    config = MODELS["retina_net"]
    frozen = config.model_copy(update={"backbone": config.backbone.model_copy(update={"frozen": 1})})
    with pytest.raises(ValueError, match=r"model\.backbone\.frozen=1 would keep random weights; .*weights"):
        pretrained_parts(frozen, make_task(ndim))


def test_a_suggestion_keeps_what_else_was_set(tmp_path):
    config = ResNetConfig(depth=34, **SMALL, frozen=2, activation="silu")
    message = refusal(config, resnet_state(), tmp_path)
    assert '"frozen": 2' in message
    assert '"activation": "silu"' in message
