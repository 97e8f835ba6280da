"""What can go wrong in a text file: JSON, YAML, XML, CSV, and any lines; each mutation is drawn from a generator."""

import csv
import io
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import yaml

WORDS = (
    "", " ", "-", "..", "../../etc/passwd", "\0", "\ud800", "\x1b[31mred", "<script>alert(1)</script>", "=1+1", "nan",
    "inf", "-inf", "1e400", "1e38", "0x10", "1,5", "1" * 400, "True", "null", "a" * 5000, '"', "'", "\u202eabc",
    "/dev/zero",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2, 0.5, -0.0, 1e-9, 1e9, 1e38, 1e308, -1e308, 2**31, 2**63, -(2**63), 2**64, 10**30)
VALUES = (
    None, True, False, [], {}, [[]], [None], {"": None}, float("nan"), float("inf"), *NUMBERS, *WORDS, [1, 2], "1",
    ["a"],
)  # fmt: skip


def mutate_json(draw: random.Random, content: bytes) -> bytes:
    """Change a value, a key, or the text itself; of several lines (JSON Lines) one."""
    text = content.decode()
    try:
        document = json.loads(text)
    except ValueError:
        lines = text.splitlines(keepends=True)
        row = draw.randrange(len(lines))
        lines[row] = mutate_json(draw, lines[row].encode()).decode("utf-8", "surrogateescape").strip("\n") + "\n"
        return "".join(lines).encode("utf-8", "surrogateescape")
    kind = draw.choice(["value", "value", "value", "value", "key", "lose", "grow", "text", "deep", "digits", "twice"])
    if kind == "text":
        return mutate_bytes(draw, content)
    if kind == "deep":
        return ("[" * 100_000).encode()
    if kind == "digits":
        return re.sub(r"\d+", lambda number: number[0] * (400 if draw.random() < 0.2 else 1), text).encode()
    if kind == "twice":
        return re.sub(r'^\{\s*("[^"]*"\s*:)', r"{\1 7, \1", text).encode()
    return _encode(json.dumps(change_node(draw, document, kind)))


def mutate_yaml(draw: random.Random, content: bytes) -> bytes:
    """As in JSON; also references that multiply, tags that would run code, and indents that do not fit."""
    kind = draw.choice(["value", "value", "key", "lose", "grow", "bomb", "tag", "text", "indent"])
    if kind == "bomb":
        rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
        return content + b"\n" + "\n".join(rows).encode() + b"\n"
    if kind == "tag":
        return re.sub(rb":", b": !!python/object/apply:os.getcwd", content, count=1)
    if kind == "indent":
        return b"\t" + content.replace(b"\n", b"\n   ", draw.randrange(4))
    if kind == "text":
        return mutate_bytes(draw, content)
    return _encode(yaml.safe_dump(change_node(draw, yaml.safe_load(content), kind), allow_unicode=False))


def change_node(draw: random.Random, document: Any, kind: str) -> Any:
    """The document with one place changed: another "value", another "key", "lose" it, "grow" something new there."""
    places = [place for place in _places(document) if place[0] is not None]
    if not places:
        return draw.choice(VALUES)
    holder, key = draw.choice(places)
    if kind == "lose":
        del holder[key]
    elif kind == "grow":
        holder[key] = draw.choice([[holder[key]] * 3, {"a": holder[key]}, [[holder[key]]]])
    elif kind == "key" and isinstance(holder, dict):
        holder[draw.choice(WORDS)] = holder.pop(key)
    else:
        holder[key] = draw.choice(VALUES)
    return document


def mutate_xml(draw: random.Random, content: bytes) -> bytes:
    """Change texts, attributes and elements; entities that multiply or read files; depth; encodings."""
    kinds = ["text", "text", "attribute", "lose", "twice", "rename", "bomb", "external", "deep", "encoding", "bytes"]
    kind = draw.choice(kinds)
    text = content.decode()
    if kind == "bytes":
        return mutate_bytes(draw, content)
    if kind in ("bomb", "external"):
        rows = ['<!ENTITY a0 "lol">', *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))]
        entity = "".join(rows) if kind == "bomb" else '<!ENTITY a8 SYSTEM "file:///etc/hostname">'
        root = re.search(r"<(\w+)", text)[1]
        return f"<!DOCTYPE {root} [{entity}]>{re.sub(r'>[^<>]+<', '>&a8;<', text, count=1)}".encode()
    if kind == "deep":
        return (text.rpartition("</")[0] + "<a>" * 50_000).encode()
    if kind == "encoding":
        return f'<?xml version="1.0" encoding="{draw.choice(["utf-16", "no-such", "ascii"])}"?>{text}'.encode()
    pattern = {"text": r">([^<>]+)<", "attribute": r'="([^"]*)"'}.get(kind, r"<(\w+)(?:(?!<\1)[\s\S])*?</\1>")
    found = list(re.finditer(pattern, text))
    if not found:
        return mutate_bytes(draw, content)
    one = draw.choice(found)
    if kind in ("text", "attribute"):
        return _encode(text[: one.start(1)] + str(draw.choice((*WORDS, *NUMBERS))) + text[one.end(1) :])
    new = {"lose": "", "twice": 2 * one[0], "rename": one[0].replace(one[1], "other")}[kind]
    return (text[: one.start()] + new + text[one.end() :]).encode()


def mutate_csv(draw: random.Random, content: bytes) -> bytes:
    """Change cells, rows, columns, the header, the delimiter, the quotes."""
    kind = draw.choice(["cell"] * 6 + ["header", "row", "column", "long", "delimiter", "huge", "quote", "nul", "bytes"])
    rows = list(csv.reader(io.StringIO(content.decode()), delimiter="," if b"," in content else " "))
    rows = [row for row in rows if row]
    if kind == "bytes" or not rows:
        return mutate_bytes(draw, content)
    row = rows[draw.randrange(len(rows))]
    column = draw.randrange(len(row))
    if kind in ("cell", "nul", "huge"):
        row[column] = {"nul": "a\0b", "huge": "9" * 140_000}.get(kind, str(draw.choice((*WORDS, *NUMBERS))))
    elif kind == "header":
        rows[0][draw.randrange(len(rows[0]))] = draw.choice((*WORDS, rows[0][0]))
    elif kind == "row":
        draw.choice([rows.clear, rows.pop, lambda: rows.extend(rows), lambda: rows.insert(1, ["x"])])()
    elif kind == "column":
        rows = [row[1:] for row in rows]
    elif kind == "long":
        row.extend(["1"] * draw.choice([1, 10_000]))
    elif kind == "quote":
        return content.replace(b",", b',"', 1)
    separator = ";" if kind == "delimiter" else "," if b"," in content else " "
    return _encode("".join(separator.join(row) + "\n" for row in rows))


def mutate_lines(draw: random.Random, content: bytes) -> bytes:
    """Change one word of a text of `key = value`, `key: value` or numbers."""
    text = content.decode("utf-8", "surrogateescape")
    words = list(re.finditer(r"[^\s=:]+", text))
    if not words or draw.random() < 0.2:
        return mutate_bytes(draw, content)
    one = draw.choice(words)
    return _encode(text[: one.start()] + str(draw.choice((*WORDS, *NUMBERS))) + text[one.end() :])


def mutate_bytes(draw: random.Random, content: bytes) -> bytes:
    """What disks, transfers and editors do to any file."""
    kind = draw.choice(["flip", "flip", "flip", "cut", "empty", "zeros", "append", "mark", "utf16", "latin", "swap"])
    data = bytearray(content or b"\0")
    if kind == "flip":
        for _ in range(draw.choice([1, 1, 1, 2, 16])):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif kind == "cut":
        del data[draw.randrange(len(data)) :]
    elif kind == "zeros":
        start = draw.randrange(len(data))
        data[start : start + 64] = bytes(len(data[start : start + 64]))
    elif kind == "swap":
        middle = draw.randrange(len(data))
        data = data[middle:] + data[:middle]
    elif kind == "latin":
        data.insert(draw.randrange(len(data)), 0xE4)
    changed = {"empty": b"", "append": bytes(data) + draw.randbytes(64), "mark": b"\xef\xbb\xbf" + bytes(data)}
    return changed[kind] if kind in changed else b"\xff\xfe" + b"\0".join(
        bytes([one]) for one in data[:10_000]
    ) if kind == "utf16" else bytes(data)  # fmt: skip


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")
