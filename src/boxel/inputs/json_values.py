"""The values in JSON texts, and whether they have the types that a reader expects."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from boxel.inputs.problems import InputError

__all__ = ["Finite", "Identity", "Whole", "check_shape", "check_text", "exactly", "parse_json", "whole_number"]


def _as_identity(value: object) -> int | float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number or a text")
    return value


# A number that is one for a float of 32 bits too; a count or an index, of 64 bits.
Finite = Annotated[float, Field(ge=-3e38, le=3e38, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
Identity = Annotated[Any, AfterValidator(_as_identity)]  # of an image in a list, a number or a text
DEEPEST = 100  # levels of nesting; Python itself shows and copies no value of some hundred
MOST_DIGITS = 308  # of a whole number; of a longer one than a float holds, each use would be an error of its own
_BETWEEN = bytes({*range(256)} - {*b"[]{}"})
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # down and up a level, as signed bytes
LONG_RUN = b"0" * 19  # digits that a number of 64 bits may not hold
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = re.compile(rb"(?<![.\d])\d{19}")  # not of a fraction
HALF = re.compile(r"\\[uU](?:0{4})?[dD][89a-fA-F]")  # of a character that takes two, in JSON and in YAML


def exactly(length: int) -> FieldInfo:
    """The rule for a list of this length."""
    return Field(min_length=length, max_length=length)


def parse_json(text: str, path: Path, shape: Any = Any, fix: str = "") -> Any:
    """The value that a JSON text holds; `path` is the file to name in errors, see `boxel.inputs.texts.read_json`."""
    content = text.encode()
    try:
        value = _read_quickly(content)
    except (TypeError, ValueError, RecursionError):
        value = _read_strictly(text, path)
    if _is_deep(value, content):
        raise InputError(path, f"its values are nested in more than {DEEPEST} levels", "copy or export it again")
    check_text(value, text, path)
    return value if shape is Any else check_shape(value, shape, path, fix)


def _read_strictly(text: str, path: Path) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=whole_number)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"not valid JSON ({error})", "copy or export it again") from None


def _read_quickly(content: bytes) -> Any:
    """What `_read_strictly` gives, in a tenth of its time.

    Raises:
        ValueError: or TypeError; the text is not valid, or holds what orjson reads in another way: names that occur
            twice, whole numbers of more than 64 bits.
    """
    if LONG_RUN in content.translate(_AS_ZEROS) and _LONG_NUMBER.search(content):
        raise ValueError("a long number")
    value = orjson.loads(content)
    if b"\\u" in content or content.count(b":") != orjson.dumps(value).count(b":"):  # a name that is lost has one
        raise ValueError("a name occurs twice, or a colon may be written by its number")
    return value


def check_shape(value: Any, shape: Any, path: Path, fix: str) -> Any:
    """The value, if it has the type `shape`.

    Raises:
        InputError: it has not; names the first place that differs, such as `detections[3].box`.
    """
    try:
        return _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).removeprefix(".")
    if problem["type"] == "missing":
        raise InputError(path, f"{place} is missing", fix)
    rule = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    raise InputError(path, f"{place or 'its content'} {_plain(rule)} (given: {str(problem['input'])[:80]})", fix)


def _plain(rule: str) -> str:
    """A rule in the words of JSON, not of Python."""
    return rule.replace("valid dictionary", "mapping").replace("valid ", "").replace("a integer", "an integer")


def check_text(value: Any, text: str, path: Path) -> None:
    """Raise InputError if a string among the values has half a character, which can be neither shown nor written."""
    if "\\" in text and HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise InputError(path, f"a text has half a character ({half})", "write the character itself") from None


def whole_number(digits: str) -> int:
    """A whole number from its digits.

    Raises:
        ValueError: it has more than 308 of them.
    """
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"{digits[:20]}... is a number of {len(digits)} digits; give one of {MOST_DIGITS} or fewer")
    return int(digits)


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _is_deep(value: Any, content: bytes) -> bool:
    """Whether values are nested too deep: seen by the brackets of the text at little cost, then by the values."""
    if content.count(b"[") + content.count(b"{") <= DEEPEST:
        return False
    steps = np.frombuffer(content.translate(_STEPS, _BETWEEN), np.int8)
    if steps.cumsum(dtype=np.int64).max(initial=0) <= DEEPEST:
        return False
    level = [value]  # brackets in strings were counted too
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
                 if isinstance(inner, dict | list)]  # fmt: skip
    return bool(level)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are unique; of two equal names, Python would silently keep the last value."""
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} occurs twice; names must be unique")
    return record
