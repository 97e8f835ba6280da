"""Configurations: error messages name the key, the value and the likely fix."""

import importlib
import json
from typing import ClassVar

import pytest

from boxel.config import Choice, Config
from boxel.files import write_text
from boxel.inputs.texts import read_json


class Shape(Choice):
    """Abstract."""


class Circle(Shape, name="circle"):
    radius: float = 1.0


class Square(Shape, name="square"):
    side: float = 2.0


class Picture(Config):
    title: str = "none"
    shape: Shape = Circle()
    frames: tuple[Shape, ...] = ()
    lid: Shape | None = None


def test_a_choice_keeps_its_type_and_values_through_json():
    picture = Picture(shape=Square(side=3))
    assert json.loads(picture.to_json())["shape"] == {"type": "square", "side": 3.0}
    assert Picture.from_dict(json.loads(picture.to_json())) == picture


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"shape": {"type": "square", "sid": 1}}, "unknown key 'shape.sid'; did you mean 'side'"),
        ({"frames": ["circle", {"type": "circle", "radus": 1}]}, "unknown key 'frames.1.radus'; did you mean 'radius'"),
        ({"lid": {"type": "square", "radius": 1}}, "unknown key 'lid.radius'. Known: side"),
    ],
)
def test_keys_of_the_choice_that_was_made_are_suggested(values, says):
    with pytest.raises(ValueError, match=says):
        Picture.from_dict(values)


def test_unknown_choices_and_keys_name_the_likely_one():
    with pytest.raises(ValueError, match="did you mean 'square'"):
        Picture.from_dict({"shape": {"type": "squar"}})
    with pytest.raises(ValueError, match="unknown key 'titel'; did you mean 'title'"):
        Picture.from_dict({"titel": "x"}, "file.json")
    with pytest.raises(ValueError, match=r"file\.json: shape\.side"):
        Picture.from_dict({"shape": {"type": "square", "side": "wide"}}, "file.json")


class Fill(Choice):
    """With a default."""

    default: ClassVar[str] = "plain"


class Plain(Fill, name="plain"):
    colour: str = "red"


class Dotted(Fill, name="dotted"):
    """Another one."""


class Dots(Config):
    fill: Fill = Plain()
    dotted: Dotted = Dotted()


def registries() -> list[type[Choice]]:
    """Every kind of choice of Boxel, and those above."""
    for module in ("boxel.experiments.sources", "boxel.models", "boxel.training.config"):
        importlib.import_module(module)
    return sorted((one for one in Choice.__subclasses__() if one.registry), key=lambda one: one.__name__)


NO_TYPE = [None, [], ["x"], 3, 0.5, True, "", *({"type": name} for name in (None, "", [], ["x"], {}, 3, True))]


@pytest.mark.parametrize("choice", registries(), ids=lambda choice: choice.__name__)
@pytest.mark.parametrize("value", NO_TYPE, ids=str)
def test_a_choice_without_a_type_names_the_setting_the_types_and_an_example(choice, value):
    record = type("Record", (Config,), {"__annotations__": {"part": choice}})
    first, *_ = types = sorted(choice.registry)
    with pytest.raises(ValueError, match="needs a type of") as error:
        record.from_dict({"part": value}, "file.json")
    message = str(error.value)
    assert message.startswith("file.json: part: needs a type of ")
    assert f"one of: {', '.join(types)}; " in message
    assert f"such as {json.dumps({'type': first})}" in message
    assert message.endswith(f" (given: {str(value)!r})")


@pytest.mark.parametrize("choice", registries(), ids=lambda choice: choice.__name__)
def test_settings_without_a_type_are_those_of_the_default_if_there_is_one(choice):
    record = type("Record", (Config,), {"__annotations__": {"part": choice}})
    if choice.default:
        assert record.from_dict({"part": {}}).part == choice.registry[choice.default]()
        return
    with pytest.raises(ValueError, match="part: needs a type of "):
        record.from_dict({"part": {}})
    with pytest.raises(ValueError, match="part: needs a type of "):
        record.from_dict({"part": {"colour": 3}})


def test_a_setting_of_one_choice_refuses_the_others():
    with pytest.raises(ValueError, match=r"dotted: unknown Dotted 'plain'\. Known: dotted"):
        Dots.from_dict({"dotted": {"type": "plain"}})
    with pytest.raises(ValueError, match=r"fill: needs a type of Fill, one of: dotted, plain; .* \(given: "):
        Dots(fill=Circle())


def test_overrides_change_leaves_and_refuse_unknown_ones():
    changed = Picture(shape=Square()).override(["shape.side=5", "title=my picture"])
    assert changed.shape == Square(side=5)
    assert changed.title == "my picture"
    with pytest.raises(ValueError, match="did you mean 'side'"):
        Picture(shape=Square()).override(["shape.sid=5"])
    with pytest.raises(ValueError, match="key=value"):
        Picture().override(["title"])


def test_a_record_cannot_be_changed():
    with pytest.raises(ValueError, match=r"Picture is frozen; .* override\(\['title=\.\.\.'\]\)"):
        Picture().title = "other"
    assert Picture().override(["title=other"]).title == "other"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"titel": "x"}, "Picture: unknown key 'titel'; did you mean 'title'"),
        ({"title": 3}, r"Picture: title: .*valid string \(given: '3'\)"),
        ({"shape": {"type": "square", "side": "wide"}}, "Picture: shape.side: "),
    ],
)
def test_a_constructor_explains_itself_like_a_file(values, says):
    with pytest.raises(ValueError, match=says) as error:
        Picture(**values)
    assert "pydantic" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json: not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
