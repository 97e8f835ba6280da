"""What can go wrong in the files of images and of weights: headers whose fields lie, data that are cut or damaged."""

import gzip
import json
import random
import re
import struct
import zlib

from tests.fuzz.text_mutations import VALUES, change_node, mutate_bytes

INTEGERS = (0, 1, 2, 3, 7, 8, 255, 32767, -1, -32768)
FLOATS = (0.0, -1.0, 1e-9, 1000.0, 1e5, 1e38, float("nan"), float("inf"), -float("inf"))
# Of NIfTI 1: the offset, the type and the number of the fields that say where and what the voxels are.
NIFTI_FIELDS = (
    (0, "i", 1), (40, "h", 8), (68, "h", 1), (70, "h", 1), (72, "h", 1), (76, "f", 8), (108, "f", 1), (112, "f", 2),
    (123, "b", 1), (252, "h", 2), (256, "f", 6), (280, "f", 12), (344, "i", 1),
)  # fmt: skip
HEADER_WORDS = (
    "", "0", "-1", "2", "1e38", "nan", "1000", "0.000000001", "100000 100000 100000", "1 2", "True", "None", "LOCAL",
    "MET_DOUBLE", "MET_UCHAR", "MET_STRING", "double", "uchar", "block", "gzip", "raw", "../other.raw",
    "(1,0,0) (0,1,0)", "(nan,0,0) (0,nan,0) (0,0,nan)", "9" * 400, "x" * 5000, "0 0 0 0 0 0 0 0 0",
)  # fmt: skip
DICOM_TEXTS = (b"1e38", b"-1", b"0", b"nan", b"abc", b"", b"1000", b"1\\2\\3\\4", b"0.000000001", b"\xff\xfe", b"1\\1")
# Modality, thickness, UIDs, place, axes, samples, colours, frames, rows, columns, spacing, bits, rescaling, pixels.
DICOM_TAGS = (
    (0x0002, 0x0010), (0x0008, 0x0016), (0x0008, 0x0060), (0x0018, 0x0050), (0x0020, 0x000D), (0x0020, 0x000E),
    (0x0020, 0x0013), (0x0020, 0x0032), (0x0020, 0x0037), (0x0020, 0x0052), (0x0028, 0x0002), (0x0028, 0x0004),
    (0x0028, 0x0008), (0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0030), (0x0028, 0x0100), (0x0028, 0x0101),
    (0x0028, 0x0102), (0x0028, 0x0103), (0x0028, 0x1052), (0x0028, 0x1053), (0x7FE0, 0x0010),
)  # fmt: skip
LONG = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"OD", b"OL", b"UC", b"UR")


def mutate_nifti(draw: random.Random, content: bytes) -> bytes:
    """Write an implausible number into a field of the header, or damage the file; compressed files before or after."""
    packed = content[:2] == b"\x1f\x8b"
    if draw.random() < 0.25:
        return mutate_bytes(draw, content)
    data = bytearray(gzip.decompress(content) if packed else content)
    if draw.random() < 0.2:
        data = bytearray(mutate_bytes(draw, bytes(data)))
    else:
        offset, kind, number = draw.choice(NIFTI_FIELDS)
        value = draw.choice(FLOATS if kind == "f" else INTEGERS)
        place = offset + draw.randrange(number) * struct.calcsize(kind)
        struct.pack_into(f"<{kind}", data, place, value if kind != "b" else value % 128)
    return gzip.compress(bytes(data), mtime=0) if packed else bytes(data)


def mutate_text_header(draw: random.Random, content: bytes) -> bytes:
    """MetaImage and NRRD: change the value of a line, lose a line, or give it twice; or damage any byte."""
    head = re.match(rb"(?:[ -~]*\n)+", content)
    if not head or draw.random() < 0.2:
        return mutate_bytes(draw, content)
    end = head.end()
    if draw.random() < 0.3:
        return mutate_bytes(draw, content[:end]) + content[end:]
    lines = content[:end].splitlines(keepends=True)
    row = draw.randrange(len(lines))
    kind = draw.choice(["value", "value", "value", "word", "lose", "twice", "key"])
    key, separator, value = re.match(rb"([^=:\n]*)([=:]\s*)?(.*)", lines[row], re.DOTALL).groups()
    if kind == "value":
        value = draw.choice(HEADER_WORDS).encode() + b"\n"
    elif kind == "word":
        words = value.split() or [b""]
        words[draw.randrange(len(words))] = draw.choice(HEADER_WORDS).encode()
        value = b" ".join(words) + b"\n"
    elif kind == "key":
        key = b"Nothing"
    lines[row] = b"" if kind == "lose" else (key + (separator or b"") + value) * (2 if kind == "twice" else 1)
    return b"".join(lines) + content[end:]


def mutate_png(draw: random.Random, content: bytes) -> bytes:
    """Change a chunk, with the right checksum, so that the decoder believes it."""
    if draw.random() < 0.3 or content[:4] != b"\x89PNG":
        return mutate_bytes(draw, content)
    chunks, place = [], 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append([content[place + 4 : place + 8], bytearray(content[place + 8 : place + 8 + length])])
        place += length + 12
    row = draw.randrange(len(chunks)) if draw.random() < 0.5 else 0
    name, data = chunks[row]
    kind = draw.choice(["number", "byte", "lose", "twice", "rename"])
    if kind == "number" and len(data) >= 8:
        struct.pack_into(">I", data, draw.choice([0, 4]), draw.choice([0, 1, 2**31 - 1, 100_000, 2**32 - 1]))
    elif kind == "lose":
        del chunks[row]
    elif kind == "twice":
        chunks.insert(row, [name, data])
    elif kind == "rename":
        chunks[row][0] = b"tEXt"
    elif data:
        data[draw.randrange(len(data))] = draw.randrange(256)
    parts = (len(d).to_bytes(4, "big") + n + d + zlib.crc32(n + d).to_bytes(4, "big") for n, d in chunks)
    return content[:8] + b"".join(parts)


def mutate_tiff(draw: random.Random, content: bytes) -> bytes:
    """Change a field of the directory: its tag, type, number of values or value."""
    if draw.random() < 0.3 or content[:4] != b"II*\0":
        return mutate_bytes(draw, content)
    data = bytearray(content)
    start = int.from_bytes(data[4:8], "little")
    number = int.from_bytes(data[start : start + 2], "little")
    if not number or start + 2 + 12 * number > len(data):
        return mutate_bytes(draw, content)
    place = start + 2 + 12 * draw.randrange(number)
    offset, kind = draw.choice([(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "I")])
    limit = 65535 if kind == "H" else 2**32 - 1
    struct.pack_into(f"<{kind}", data, place + offset, draw.choice([0, 1, 3, 100, 40_000, limit]))
    return bytes(data)


def mutate_dicom(draw: random.Random, content: bytes) -> bytes:
    """Change the value, the type or the length of an element; lose it; or damage any byte."""
    tags = list(DICOM_TAGS)
    draw.shuffle(tags)
    places = (content.find(struct.pack("<HH", *tag), 128) for tag in tags)
    place = next((place for place in places if place >= 0), -1)
    if place < 0 or draw.random() < 0.25:
        return mutate_bytes(draw, content)
    width = 4 if content[place + 4 : place + 6] in LONG else 2
    start = place + (12 if width == 4 else 8)
    length = int.from_bytes(content[start - width : start], "little")
    kind = draw.choice(["value", "value", "lose", "length", "type"])
    if kind == "lose":
        return content[:place] + content[start + length :]
    if kind == "type":
        return content[: place + 4] + draw.choice([b"DS", b"US", b"SQ", b"XX", b"OB"]) + content[place + 6 :]
    if kind == "length":
        new = draw.choice([0, 1, length + 2, 2**31, 2**32 - 2, 2**32 - 1]) % 256**width
        return content[: start - width] + new.to_bytes(width, "little") + content[start:]
    numeric = content[place + 4 : place + 6] in (b"US", b"SS")
    value = draw.choice([0, 1, 2, 65535, 30_000, 7]).to_bytes(2, "little") if numeric else draw.choice(DICOM_TEXTS)
    value += b" " * (len(value) % 2)
    return content[: start - width] + len(value).to_bytes(width, "little") + value + content[start + length :]


def mutate_safetensors(draw: random.Random, content: bytes) -> bytes:
    """Change the header, write numbers that are none, or damage any byte."""
    kind = draw.choice(["header", "nan", "bytes", "length"])
    if kind == "bytes" or len(content) < 16:
        return mutate_bytes(draw, content)
    end = 8 + int.from_bytes(content[:8], "little")
    if kind == "length":
        return draw.choice([0, 2**62, end, 10**9]).to_bytes(8, "little") + content[8:]
    if kind == "nan":
        return content[:end] + struct.pack("<f", draw.choice(FLOATS[-4:])) * ((len(content) - end) // 4)
    header = json.loads(content[8:end])
    changed = change_node(draw, header, draw.choice(["value", "lose", "key"]))
    text = json.dumps(changed if draw.random() < 0.95 else draw.choice(VALUES)).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + content[end:]
