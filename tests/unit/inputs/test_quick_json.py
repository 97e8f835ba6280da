"""JSON is read in two ways, and whoever reads it cannot tell in which."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from boxel.inputs.json_values import _read_quickly, _read_strictly, parse_json
from boxel.inputs.problems import InputError

NUMBERS = st.one_of(st.integers(), st.integers(-(2**66), 2**66), st.floats(), st.integers(10**300, 10**320))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.sampled_from('ab:\\"\n\u00e9\ud83d\x00'))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(st.sampled_from("ab:\\"), max_size=2), inner)),
    max_leaves=8,
)
PIECES = st.sampled_from(
    ["", ",", ":", '"', "{", "}", "[", "]", '"a":1,', "\\u003a", "0" * 20, "-", "e400", "NaN", " "]
)


def strictly(text, path):
    try:
        return repr(_read_strictly(text, path))
    except InputError as error:
        return str(error)


@given(value=VALUES, at=st.integers(0, 30), length=st.integers(0, 3), piece=PIECES, escaped=st.booleans())
@example({"a": 1}, 1, 0, '"a":1,', False)  # a name that occurs twice
@example({":": 1, "a": 2}, 9, 0, '"a":1,', False)
@example({"a": 2**64 + 1}, 0, 0, "", False)
@settings(max_examples=300, deadline=None)
def test_what_is_read_quickly_is_what_is_read_strictly(tmp_path_factory, value, at, length, piece, escaped):
    text = json.dumps(value, ensure_ascii=escaped)
    text, path = text[:at] + piece + text[at + length :], tmp_path_factory.getbasetemp() / "a.json"
    try:
        found = repr(_read_quickly(text.encode()))
    except (TypeError, ValueError, RecursionError):
        return  # in doubt, the other way is taken
    assert found == strictly(text, path)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": "\\u003a", "b": 1, "b": 2}', "[1,]", "NaN", "18446744073709551617", "1e400", "-0", "{",
     f"[{'1' * 400}]", "[" * 200 + "]" * 200],
)  # fmt: skip
def test_what_two_readers_differ_in_is_read_as_before(tmp_path, text):
    outcome = strictly(text, tmp_path)
    try:
        found = repr(parse_json(text, tmp_path))
    except InputError as error:
        found = str(error).replace("its values are nested in more than 100 levels; copy or export it again", "deep")
    assert found in (outcome, f"{tmp_path}: deep")


def test_an_ordinary_text_is_read_quickly():
    assert _read_quickly(b'{"a": [1, 2.5, 0.12345678901234567890], "b": "x:y", "c": null}')["b"] == "x:y"
