"""Recipes as YAML files, and settings in words."""

import re

import pytest
import yaml

from boxel.config import Config
from boxel.recipes import get_recipe, recipes
from boxel.recipes.explained import _about, as_yaml, explain


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_written_as_yaml_is_the_same_recipe_and_explains_every_setting(name, tmp_path):
    recipe = get_recipe(name)
    text = as_yaml(recipe)
    (tmp_path / "Mine.YAML").write_text(text)
    assert get_recipe(tmp_path / "Mine.YAML") == recipe
    lines = text.splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r" *[a-z_]+:", line) and " type: " not in line]
    assert len(settings) > 60
    assert all(re.match(r" *# ", lines[number - 1]) for number in settings)
    assert not [line for line in lines if len(line) > 110 and "#" in line]


def test_every_setting_has_an_explanation_of_its_own():
    def check(record: Config) -> None:
        for name in type(record).model_fields:
            value = getattr(record, name)
            if isinstance(value, Config):
                check(value)
            else:
                assert _about(type(record), name), f"{type(record).__name__}.{name}"

    for name in recipes():
        check(get_recipe(name))


def test_a_setting_is_explained_with_type_range_value_default_and_page():
    recipe = get_recipe("retina_unet_small")
    assert explain(recipe, "train.lr").splitlines() == [
        "train.lr: learning rate at its highest, after the warm-up.",
        "  type: number, at least 0, at most 1e+06", "  value: 0.002", "  default: 0.001",
        "  see: docs/how_to/training.md",
    ]  # fmt: skip
    assert "one of: constant, cosine, poly, steps" in explain(recipe, "train.schedule")
    assert explain(recipe, "train.sampler").count("\n  type: ") == 5
    with pytest.raises(ValueError, match=r"did you mean 'train.lr'\? The nearest of \d+: train.lr, ") as error:
        explain(recipe, "train.lrr")
    assert str(error.value).count(",") == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda values: values["train"].update(stepz=3), r"mine.yml: unknown key 'train.stepz'; did you mean 'steps'"),
        (lambda values: values["train"].update(lr="fast"), r"mine.yml: train.lr: .*\(given: 'fast'"),
    ],
)
def test_a_wrong_value_in_a_file_is_named(tmp_path, change, says):
    values = yaml.safe_load(as_yaml(get_recipe("retina_unet_small")))
    change(values)
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=says):
        get_recipe(tmp_path / "mine.yml")
