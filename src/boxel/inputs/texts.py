"""Texts: the content of files, its encoding, and XML and YAML.

Sizes are compared with the memory before anything is read. Neither format may name parts and repeat them by their
names (entities of XML, aliases of YAML): a few lines of such a file can stand for terabytes.
"""

import codecs
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from boxel.inputs.folders import refuse_special
from boxel.inputs.json_values import check_text, parse_json, whole_number
from boxel.inputs.memory import memory, size_in_words
from boxel.inputs.problems import InputError

__all__ = ["AGAIN", "REMAKE", "read_bytes", "read_head", "read_json", "read_mapping", "read_text", "read_xml"]

AGAIN = "copy or export it again"
REMAKE = "delete it to have it made again"  # what Boxel derives from other files
CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r"})  # not in texts
NOT_YAML = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)  # of odd tags
SHARE = 0.1  # of the memory; the values of a text take about ten times its size
SMALL = 2**20  # bytes that fit any memory
Report = Callable[[InputError], None]


def read_bytes(path: Path, share: float = SHARE) -> bytes:
    """The content of a regular file, which may be as large as this share of the memory.

    Raises:
        InputError: it is missing, no regular file, unreadable, or too large for the memory.
    """
    path = Path(path)
    refuse_special(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > SMALL and (whole := memory()) and size > share * whole:
                problem = f"has {size_in_words(size)}, too much for {size_in_words(whole)} of memory"
                raise InputError(path, problem, "divide it")
            return file.read()
    except FileNotFoundError:
        raise InputError(path, "no such file", "check the path") from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "check its permissions") from None


def read_head(path: Path, count: int) -> bytes:
    """The first bytes of a file, to tell its kind; none of what cannot be read, for its reader to explain."""
    try:
        refuse_special(path)
        with path.open("rb") as file:
            return file.read(count)
    except (OSError, InputError):
        return b""


def read_text(path: Path, report: Report | None = None, *, strict: bool = False) -> str:
    """The text of a file: UTF-8, UTF-16 with its byte order mark, or else Windows-1252, which is reported.

    Args:
        path: the file.
        report: called with the note that a text was read as Windows-1252.
        strict: refuse that encoding.

    Raises:
        InputError: not a text; names line and column of the first wrong byte.
    """
    content = read_bytes(path)
    wide, note = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)), None
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide or strict:
            before = content[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            problem = f"byte 0x{content[error.start]:02x} in line {line}, column {column} is no text"
            raise InputError(path, problem, f"save it as UTF-8, or {AGAIN}") from None
        text, note = _decode_1252(content, path), report
    plain = text.encode() if wide else content
    if len(plain.translate(None, CONTROLS)) < len(plain):
        raise InputError(path, "not a text file", AGAIN)
    if note:
        problem = "not UTF-8; read as Windows-1252"
        note(InputError(path, problem, "save it as UTF-8 if names are wrong", severity="note"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode_1252(content: bytes, path: Path) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        raise InputError(path, "not a text file", AGAIN) from None


def read_json(path: Path, shape: Any = Any, fix: str = AGAIN) -> Any:
    """The content of a JSON file, which must be UTF-8 or UTF-16.

    Args:
        path: the file.
        shape: the type that the value must have, such as `dict[str, float]` or a `TypedDict`; keys that a `TypedDict`
            does not name are left out.
        fix: what a user can do about a value of another type.

    Raises:
        InputError: the file is missing, unreadable, not JSON, names a key twice, or holds something else.
    """
    return parse_json(read_text(path, strict=True), path, shape, fix)


def read_mapping(path: Path, report: Report | None = None) -> Any:
    """The content of a JSON or YAML file, whose text is read by `read_text`."""
    text = read_text(path, report)
    return _parse_yaml(text, path) if path.suffix.lower() in (".yaml", ".yml") else parse_json(text, path)


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not read, write the value itself", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(names)) < len(names):
                twice = Counter(names).most_common(1)[0][0]
                problem = f"{twice!r} occurs twice; names must be unique"
                raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
            return super().construct_mapping(node, deep)

    def number(_: Any, node: Any) -> int:
        return whole_number(node.value)  # decimal, as in YAML 1.2; PyYAML takes 010 for 8

    Loader.add_constructor("tag:yaml.org,2002:int", number)
    try:
        value = yaml.load(text, Loader)
    except (yaml.YAMLError, *NOT_YAML) as error:
        mark = getattr(error, "problem_mark", None)
        place = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(path, f"not valid YAML ({reason}{place})", AGAIN) from None
    check_text(value, text, path)
    return value


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; namespaces are removed from tag names."""
    content = read_bytes(path)
    if b"<!ENTITY" in content.replace(b"\0", b""):  # of UTF-16 too
        raise InputError(path, "defines entities, which are not read", "write their text itself")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(path, f"not valid XML ({error})", AGAIN) from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
    return root
