"""Configurations: frozen records of plain values, read from and written to JSON, overridden by dotted keys.

A record rejects unknown keys and suggests the one that was probably meant. A *choice* is an abstract record whose
subclasses register under a name; its JSON carries that name as `"type"`.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, model_serializer, model_validator
from pydantic.fields import FieldInfo

from boxel.files import write_text
from boxel.inputs.json_values import whole_number
from boxel.inputs.texts import read_json
from boxel.plugins import Registry
from boxel.ranges import MOST, limit_whole_numbers, range_in_words

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


MANY, NEAREST = 12, 5  # keys from which on a message names the nearest only, and how many


class _Explained(ModelMetaclass):
    """Errors of a direct call of the class read like those of `Config.from_dict`, without pydantic's own text."""

    def __call__(self, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise ValueError(_explain(cast(type[BaseModel], self), values, error, self.__name__)) from None


class Config(BaseModel, metaclass=_Explained):
    """A frozen record; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError(f"{type(self).__name__} is frozen; for a changed copy use override(['{name}=...'])")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return limit_whole_numbers(handler(source))

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values; a choice carries its name as `"type"`."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def save(self, path: Path) -> None:
        """Write as JSON; the file appears whole or not at all."""
        write_text(path, self.to_json())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "configuration") -> Self:
        """Build from plain values.

        Raises:
            ValueError: names `source`, the key, the value, the rule and, for an unknown key, the likely one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(_explain(cls, values, error, source)) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls.from_dict(read_json(path), str(path))

    def override(self, assignments: Iterable[str]) -> Self:
        """A copy with leaves replaced, each `"dotted.key=value"`; the value is JSON, or else a string.

        Example:
            >>> class Train(Config):
            ...     lr: float = 0.1
            >>> Train().override(["lr=0.5"]).lr
            0.5
        """
        values = self.to_dict()
        for assignment in assignments:
            key, separator, text = assignment.partition("=")
            if not separator:
                raise ValueError(f"override {assignment!r} is not of the form key=value, for example train.steps=100")
            *parents, leaf = key.strip().split(".")
            node = values
            for depth, name in enumerate([*parents, leaf]):
                if not isinstance(node, dict) or name not in node:
                    known = list(node) if isinstance(node, dict) else []
                    place = ".".join(parents[:depth]) or "the settings"
                    raise ValueError(
                        f"unknown key {name!r} in {place} (from {assignment!r}){did_you_mean(name, known)}"
                    )
                if depth < len(parents):
                    node = node[name]
            try:
                node[leaf] = json.loads(text, parse_int=whole_number)
            except json.JSONDecodeError:
                node[leaf] = text
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{key.strip()}: {error}") from None
        return type(self).from_dict(values, "override")


class Choice(Config):
    """An abstract record: each direct subclass opens a registry; theirs register under `name=` in the class line.

    If JSON carries no `"type"`, the `default` of the registry is used, if it has one. A name alone is the choice with
    its defaults.
    """

    registry: ClassVar[Registry[type["Choice"]]]
    type_name: ClassVar[str] = ""
    default: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, name: str = "", **_: Any) -> None:
        if Choice in cls.__bases__:
            cls.registry = Registry(_kind(cls))
        if name:
            cls.type_name = name
            cls.registry[name] = cls

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @model_validator(mode="wrap")
    @classmethod
    def _pick(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str | Mapping):
            raise ValueError(cls._needs_type())
        values = {"type": value} if isinstance(value, str) else dict(value)
        name = values.pop("type", cls.type_name or cls.default)
        if name == cls.type_name and (name or Choice not in cls.__bases__):
            return handler(values)
        if not name or not isinstance(name, str):
            raise ValueError(cls._needs_type())
        if name not in cls.registry or not issubclass(cls.registry[name], cls):
            hint = did_you_mean(name, cls._types())
            raise ValueError(f"unknown {_kind(cls)} {name!r}{hint}; one of a plug-in needs its file, --plugin FILE")
        return cls.registry[name].model_validate(values)

    @classmethod
    def _types(cls) -> list[str]:
        return sorted(name for name, choice in cls.registry.items() if issubclass(choice, cls))

    @classmethod
    def _needs_type(cls) -> str:
        types = cls._types() or ["nothing"]
        return (
            f"needs a type of {_kind(cls)}, one of: {', '.join(types)}; give its name, such as {types[0]}, or its "
            f"settings, such as {json.dumps({'type': types[0]})}"
        )

    @model_serializer(mode="wrap")
    def _with_type(self, handler: Any) -> dict[str, Any]:
        return {"type": self.type_name, **handler(self)}


def _kind(cls: type[Choice]) -> str:
    return cls.__name__.removesuffix("Config")


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested settings, with its dotted key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: `"; did you mean 'x'? Known: ..."`, with the nearest of very many."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    if len(known) <= MANY:
        return f"{hint} Known: {', '.join(known) or 'nothing'}"
    near = difflib.get_close_matches(word, known, n=NEAREST, cutoff=0)
    return f"{hint} The nearest of {len(known)}: {', '.join(near)}"


def _explain(cls: type[BaseModel], values: Any, error: ValidationError, source: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"] if "[" not in str(part))  # tuple[...] is no key
        if problem["type"] == "extra_forbidden":
            known = _siblings(cls, values, problem["loc"])
            lines.append(f"unknown key {key!r}{did_you_mean(str(problem['loc'][-1]), known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
            bounds = problem.get("ctx", {})
            if MOST in (bounds.get("le"), -bounds.get("ge", 0)):
                message = f"whole numbers have at most 64 bits ({MOST})"
            named = problem["type"] == "missing" or not key  # a rule about several keys names them itself
            given = "" if named else f" (given: {_shown(problem['input'])!r}{_limits(cls, values, problem)})"
            lines.append(f"{key}: {message}{given}" if key else message)
    return f"{source}: " + "; ".join(lines)


def _siblings(cls: type[BaseModel], values: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys of the record that `location` names a key of, in the choices that `values` make."""
    return list(getattr(_at(cls, values, location[:-1])[0], "model_fields", {}))


def _at(cls: type[BaseModel], values: Any, location: tuple[int | str, ...]) -> tuple[Any, FieldInfo | None]:
    """The record, or the type, at a location in the choices that `values` make, and the last field on the way."""
    record, last = _chosen(cls, values), None
    for part in location:
        field = getattr(record, "model_fields", {}).get(part)
        try:
            values = values[part]
        except (TypeError, LookupError):  # the name of a type, where there are several
            values = None
        record, last = _chosen(field.annotation if field else record, values), field or last
    return record, last


def _limits(cls: type[BaseModel], values: Any, problem: Any) -> str:
    """The whole range, where a number is out of it; the message of a bound names that one alone."""
    of_bound = problem["type"].startswith(("greater_than", "less_than"))
    field = _at(cls, values, problem["loc"])[1] if of_bound else None
    limits = range_in_words(field.annotation, field.metadata) if field else ""
    return f"; range: {limits}" if limits else ""


def _shown(value: Any) -> str:
    try:
        return str(value)[:80]
    except ValueError:  # Python shows no number of more than 4300 digits
        return "a number of more than 4300 digits"


def _chosen(annotation: Any, values: Any) -> Any:
    """The record that an annotation, such as `NeckConfig | None` or `tuple[Rule, ...]`, means for these values."""
    while get_args(annotation):
        annotation = get_args(annotation)[0]
    if isinstance(values, Mapping) and isinstance(annotation, type) and issubclass(annotation, Choice):
        return annotation.registry.get(values.get("type", annotation.type_name or annotation.default), annotation)
    return annotation
