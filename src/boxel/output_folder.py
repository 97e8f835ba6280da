"""Output folders: which a command may write into, and where the files of many cases are in them.

A command writes into new and empty folders, and into those that hold its own earlier output. The files of more than
`MANY` cases are divided among 256 subfolders, each named by the first two digits of the hash of the case name.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from boxel.config import write_text
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_json
from boxel.wording import counted_of

RECORD = ".boxel"
MANY = 10_000


class _Record(TypedDict):
    verb: str
    source: NotRequired[str]
    job: dict[str, Any]
    cases: NotRequired[list[str]]


@contextmanager
def claimed(
    out: Path,
    verb: str,
    job: Mapping[str, Any] | None = None,
    *,
    source: str = "",
    cases: Iterable[str] = (),
    shared: bool = False,
) -> Iterator[None]:
    """Write into `out` while this is entered; a record there lets the same command, and no other, continue later.

    Several processes may enter at the same time. The record is removed again if an error leaves nothing else behind.

    Args:
        out: the folder.
        verb: the command, such as `"predict"`.
        job: what must be the same when the command continues, by the name that users know; JSON-ready.
        source: where the output comes from, for the message of a later command with another job.
        cases: what will be written, case by case; kept, so that `unfinished` knows what an interrupted command lacks.
        shared: other processes may be about to write here: the record stays after an error.

    Raises:
        ValueError: `out` is a file, or holds anything else than output of the same command with the same job.
    """
    out, record = Path(out), Path(out) / RECORD
    job = json.loads(json.dumps(dict(job or {})))
    created = not out.exists()
    wanted = sorted(cases)
    before: dict[str, Any] = {"verb": verb, "source": source, "job": job, "cases": wanted}
    is_new = _write_record(record, verb, before)
    if not is_new:
        before = read_json(record, _Record, "choose a new or empty folder with --out")
        _check_same(out, before, verb, job, source)
        known = set(before.get("cases", ()))
        if not known.issuperset(wanted):
            write_text(record, _as_text({**before, "cases": sorted(known.union(wanted))}))
    try:
        yield
    except BaseException:
        if is_new and not shared and list(out.iterdir()) == [record]:
            record.unlink()
            if created:
                out.rmdir()
        raise


def unfinished(out: Path, done: Collection[str], among: Collection[str] | None = None) -> str:
    """A warning that the command which writes into `out` was interrupted, with the cases it lacks; else empty.

    Args:
        out: the folder.
        done: the cases that are there.
        among: the cases that matter; None for all.
    """
    verb, cases = _wanted(out)
    missing = [case for case in cases if case not in done and (among is None or case in among)]
    if not missing:
        return ""
    listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    return (
        f"{out}: unfinished: {counted_of(len(missing), len(cases), 'image', 'is', 'are')} missing ({listed}); rerun "
        f"the interrupted `boxel {verb}` to resume it"
    )


def wanted_cases(out: Path) -> list[str]:
    """The cases that the command which writes into `out` was given; empty if it is not known."""
    return _wanted(out)[1]


def _wanted(out: Path) -> tuple[str, list[str]]:
    if not (out / RECORD).is_file():
        return "", []
    record = read_json(out / RECORD, _Record, "remove it")
    return record["verb"], record.get("cases", [])


def case_file(out: Path, case: str, suffix: str, num_cases: int = 0) -> Path:
    """The file `CASE + suffix` of a case in `out`: where it is or, if it does not exist yet, where it is to be.

    Args:
        out: the folder.
        case: name of the case.
        suffix: such as `".json"`.
        num_cases: number of cases in the folder; more than `MANY` are divided among subfolders.

    Raises:
        ValueError: a case name that would lead out of the folder.
    """
    if case in ("", ".", "..") or case != Path(case).name:
        raise ValueError(f"case {case!r}: cannot be the name of a file in {out}; rename the case")
    flat = Path(out) / f"{case}{suffix}"
    nested = flat.parent / hashlib.sha256(case.encode()).hexdigest()[:2] / flat.name
    places = (nested, flat) if num_cases > MANY else (flat, nested)
    return next((place for place in places if place.exists()), places[0])


def list_files(folder: Path, suffix: str) -> list[Path]:
    """The files `CASE + suffix` in a folder and its subfolders of cases, by their names."""
    files = listing(folder, f"*{suffix}")
    for inner in listing(folder, "[0-9a-f][0-9a-f]"):
        files += listing(inner, f"*{suffix}")
    return sorted(files, key=lambda file: (file.name, file))


def check_empty(out: Path, verb: str, own: Collection[str] = (), option: str = "--out") -> None:
    """Raise ValueError if `out` is a file, or holds a file that is neither hidden nor one of the command's `own`."""
    others = [out] if out.is_file() else sorted(out.iterdir()) if out.exists() else []
    others = [path for path in others if not path.name.startswith(".") and path.name not in own]
    if out.is_file():
        raise ValueError(f"{out}: is a file; choose a folder with {option}")
    if others:
        raise ValueError(
            f"{out}: holds {others[0].name}, which `boxel {verb}` did not write there; "
            f"choose a new or empty folder with {option}"
        )


def check_file(path: Path, begin: str, verb: str) -> None:
    """Raise ValueError if `path` exists and does not begin like the file that the command writes."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; choose a file with --out")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(begin.encode())) != begin.encode():
                raise ValueError(f"{path}: exists, and `boxel {verb}` did not write it; choose another file with --out")


def _write_record(record: Path, verb: str, content: Mapping[str, Any]) -> bool:
    """Write the record unless there is one; return whether this process, and not another one, wrote it."""
    if record.exists():
        return False
    try:
        check_empty(record.parent, verb)
    except ValueError:
        if record.exists():  # another process was faster, and writes already
            return False
        raise
    temporary = record.with_name(f"{RECORD}.{uuid.uuid4().hex}")
    write_text(temporary, _as_text(content))
    try:
        os.link(temporary, record)  # unlike renaming, fails if another process was faster
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        os.replace(temporary, record)
        return True
    else:
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _check_same(out: Path, before: Any, verb: str, job: Mapping[str, Any], source: str) -> None:
    if before.get("verb") != verb:
        raise ValueError(
            f"{out}: holds the output of `boxel {before.get('verb')}`; choose a new or empty folder with --out"
        )
    old = before["job"]
    changes = [
        f"{key} {json.dumps(old.get(key))} instead of {json.dumps(job.get(key))}"
        for key in sorted(old.keys() | job.keys())
        if old.get(key) != job.get(key)
    ]
    if changes:
        origin = f" for {before.get('source')}" if before.get("source") not in ("", None, source) else ""
        raise ValueError(
            f"{out}: holds the output of `boxel {verb}`{origin} with {', '.join(changes)}; choose another folder with "
            "--out, or repeat that command to resume it"
        )
