"""Recipes as files of YAML, in which a comment says what each setting does; and single settings, explained."""

import inspect
import math
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from boxel.config import Choice, Config, did_you_mean
from boxel.ranges import bounds
from boxel.recipes.experiment import Experiment

WIDTH = 110
PAGES = {
    "plan": "docs/how_to/training.md",
    "train": "docs/how_to/training.md",
    "model": "docs/concepts/models.md",
    "predict": "docs/how_to/cohorts.md",
    "consolidate": "docs/how_to/consolidate.md",
}
KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Setting:
    """One setting of an experiment, or a group of them.

    Attributes:
        key: as after `--set`.
        value: what it is.
        about: what it does.
        kind: its type and range in words.
        default: its value in a record in which nothing is set, as YAML.
        depth: number of groups that it is in.
    """

    key: str
    value: Any
    about: str
    kind: str
    default: str
    depth: int

    @property
    def shown(self) -> str:
        """The value as YAML; of a choice its type, of a group nothing."""
        return _shown(self.value)

    def __str__(self) -> str:
        page = PAGES.get(self.key.split(".")[0], "docs/how_to/configure.md")
        now = f"\n  value: {self.shown}" if self.shown else ""
        default = f"\n  default: {self.default}" if self.default else ""
        return f"{self.key}: {self.about}\n  type: {self.kind}{now}{default}\n  see: {page}"


def explain(experiment: Experiment, key: str) -> str:
    """What a setting does, its type, range, value and default, and where it is described; of a group each in it.

    Raises:
        ValueError: there is no such setting in this experiment.
    """
    every = list(settings(experiment))
    chosen = [setting for setting in every if f"{setting.key}.".startswith(f"{key}.")]
    if not chosen:
        known = [setting.key for setting in every]
        raise ValueError(f"unknown setting {key!r} of the recipe {experiment.recipe!r}{did_you_mean(key, known)}")
    return "\n".join(map(str, chosen))


def as_yaml(experiment: Experiment) -> str:
    """The experiment as YAML, which `get_recipe` reads; a comment before each setting says what it does."""
    lines = [f"# The recipe {experiment.recipe}. Change what you like, and give this file to --recipe."]
    for setting in settings(experiment):
        indent, name = "  " * setting.depth, setting.key.rpartition(".")[2]
        text = f"{setting.about} [{setting.kind}]"
        first = "" if setting.depth else "\n"  # a blank line before each group
        lines.append(first + textwrap.fill(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "))
        if not isinstance(setting.value, Config):
            lines.append(f"{indent}{name}: {_as_yaml(setting.value)}")
            continue
        lines.append(f"{indent}{name}:")
        if isinstance(setting.value, Choice):
            lines.append(f"{indent}  type: {setting.value.type_name}")
    return "\n".join(lines) + "\n"


def settings(record: Config, path: str = "", depth: int = 0) -> Iterator[Setting]:
    """Every setting of a record and of the groups in it, in order; `path` comes before each key."""
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        default = "" if field.is_required() else _shown(field.default)
        about = _about(type(record), name) or _summary(type(value) if isinstance(value, Config) else type(record))
        yield Setting(path + name, value, about, _kind(field, value), default, depth)
        if isinstance(value, Config):
            yield from settings(value, f"{path}{name}.", depth + 1)


def _about(kind: type, name: str) -> str:
    """What the docstrings of a record say about one of its attributes."""
    for one in kind.__mro__:
        text = inspect.cleandoc(one.__dict__.get("__doc__") or "")
        found = re.search(rf"^    (?:\w+, )*{name}(?:, \w+)*: (.+(?:\n {{8}}.+)*)", text, re.MULTILINE)
        if found:
            return _with_null(found[1])
    return ""


def _summary(kind: type) -> str:
    """What a record is for; of a choice what all of its types are for."""
    kind = next((base for base in kind.__mro__ if Choice in base.__bases__), kind)
    return _with_null(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0])


def _with_null(text: str) -> str:
    """In one line, with the name that None has in files."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _kind(field: FieldInfo, value: Any) -> str:
    if isinstance(value, Choice):
        return f"one of: {', '.join(sorted(value.registry))}"
    if isinstance(value, Config):
        return "group"
    limits = sorted(set(bounds(field.annotation, field.metadata)))
    return ", ".join([_in_words(field.annotation), *(f"{LIMITS[name]} {limit:g}" for name, limit in limits)])


def _in_words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of: {', '.join(map(str, inner))}"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, inner)))
    if origin is tuple:
        return f"list ({_in_words(inner[0])})"
    return _in_words(inner[0]) if inner else KINDS.get(annotation, "group")


def _shown(value: Any) -> str:
    return getattr(value, "type_name", "") if isinstance(value, Config) else _as_yaml(value)


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=math.inf, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.to_dict() if isinstance(value, Config) else value
