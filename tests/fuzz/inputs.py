"""Damaged inputs, each told by its seed and number, and the judgement of what a command did with it."""

import os
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import binary_mutations as binary
from tests.fuzz import text_mutations as text
from tests.fuzz.templates import Template
from tests.fuzz.worker import Outcome

MUTATIONS = {
    ".json": text.mutate_json, ".jsonl": text.mutate_json, ".boxel": text.mutate_json, ".yaml": text.mutate_yaml,
    ".xml": text.mutate_xml, ".csv": text.mutate_csv, ".txt": text.mutate_lines, ".tru": text.mutate_lines,
    ".names": text.mutate_lines, ".data": text.mutate_lines, ".mps": text.mutate_xml, ".nii": binary.mutate_nifti,
    ".nii.gz": binary.mutate_nifti, ".mha": binary.mutate_text_header, ".mhd": binary.mutate_text_header,
    ".nrrd": binary.mutate_text_header, ".png": binary.mutate_png, ".tif": binary.mutate_tiff,
    ".dcm": binary.mutate_dicom, ".dicom": binary.mutate_dicom, ".safetensors": binary.mutate_safetensors,
}  # fmt: skip
PLACES = ("missing", "pipe", "loop", "endless", "folder")  # of a file, instead of another content


@dataclass(frozen=True)
class Damaged:
    """A copy of a template with one file changed.

    Attributes:
        number: with the seed it tells everything else.
        template: its name.
        command: the words of the command line.
        file: what was changed.
        mutation: how.
        words: the same with the paths of the copy.
    """

    number: str
    template: str
    command: str
    file: Path
    mutation: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number} {self.template} {self.file.name} {self.mutation}: {self.command}"


def damage(seed: int, number: int, templates: Sequence[Template], base: Path, folder: Path) -> Damaged:
    """Write the input `number` of a seed into `folder`."""
    draw = random.Random(f"{seed}:{number}")
    template = draw.choices(templates, [one.weight for one in templates])[0]
    copy = folder / "d"
    shutil.copytree(template.folder, copy)
    by_kind: dict[str, list[Path]] = {}
    for file in sorted(path for path in copy.rglob("*") if path.is_file()):
        by_kind.setdefault(_kind(file), []).append(file)
    kind = draw.choice(sorted(by_kind))
    file = draw.choice(by_kind[kind])
    if draw.random() < 0.04:
        mutation = draw.choice(PLACES)
        _replace(file, mutation)
    else:
        function = MUTATIONS.get(kind, text.mutate_bytes)
        mutation = function.__name__
        file.write_bytes(function(draw, file.read_bytes()))
    command = draw.choice(template.commands)
    words = (word.format(d=copy, o=folder / "out", base=base) for word in command.split())
    return Damaged(f"{seed}:{number}", template.name, command, file, mutation, tuple(words))


def fault(given: Damaged, outcome: Outcome) -> str:
    """What is wrong with how the command ended; empty if it succeeded, or said in one message which file is wrong."""
    if outcome.fault or outcome.status == 0:
        return outcome.fault
    if outcome.status != 2:
        return f"exit status {outcome.status}: {outcome.err[-200:]!r}"
    parts = re.split(r"^(?=boxel: )", outcome.err, flags=re.MULTILINE)
    messages = [part for part in parts if re.match(r"boxel: (?!warning: )", part)]
    found = [
        line
        for line in outcome.out.splitlines()
        if line.startswith("error: ") or '"file"' in line or '"problem"' in line
    ]
    if given.command.startswith("check"):
        messages = messages or ["\n".join(found)]
    if len(messages) != 1 or not messages[0]:
        return f"{len(messages)} messages instead of one: {outcome.err[-300:]!r}"
    if given.command.startswith("check") and given.file.name in outcome.out + outcome.err:
        return ""  # a warning says that the file is left out, the error what is lacking then
    return "" if _names(messages[0], given) else f"does not name the file: {messages[0][:300]!r}"


def _names(message: str, given: Damaged) -> bool:
    """Whether the message has the name of the file, that of its folder and the case, or says what kinds it found."""
    case = re.escape(re.sub(r"_\d{4}$|_boxes$|_seg$", "", given.file.name.partition(".")[0]))
    in_folder = f"{given.file.parent}" in message and re.search(rf"\b{case}\b|\b(cases?|images?|slices)\b", message)
    listed = "not a data set in a layout" in message and (
        given.mutation == "missing" or f"{given.file.suffix} in" in message
    )
    stem = given.mutation == "missing" and given.file.name.partition(".")[0] in message
    of_case = message.startswith((f"error: {case} ", f"boxel: {given.file.parent}: prepared with"))
    return given.file.name in message or bool(in_folder) or listed or stem or of_case


def _kind(file: Path) -> str:
    name = file.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower() or name


def _replace(file: Path, how: str) -> None:
    file.unlink()
    if how == "pipe":
        os.mkfifo(file)
    elif how == "folder":
        file.mkdir()
    elif how != "missing":
        file.symlink_to("/dev/zero" if how == "endless" else file.name)
