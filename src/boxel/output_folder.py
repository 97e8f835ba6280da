"""Which folders a command may write into: new and empty ones, and those that hold its own earlier output."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boxel.config import read_json, write_text

RECORD = ".boxel"


@contextmanager
def claimed(
    out: Path, verb: str, job: Mapping[str, Any] | None = None, *, source: str = "", cases: Iterable[str] = ()
) -> Iterator[None]:
    """Write into `out` while this is entered; a record there lets the same command, and no other, continue later.

    The record is removed again if an error leaves nothing else behind.

    Args:
        out: the folder.
        verb: the command, such as `"predict"`.
        job: what must be the same when the command continues, by the name that users know; JSON-ready.
        source: where the output comes from, for the message of a later command with another job.

        cases: what will be written, case by case; kept, so that `unfinished` knows what an interrupted command lacks.

    Raises:
        ValueError: `out` is a file, or holds anything else than output of the same command with the same job.
    """
    out, record = Path(out), Path(out) / RECORD
    job = json.loads(json.dumps(dict(job or {})))
    is_new, created = not record.exists(), not out.exists()
    if is_new:
        check_empty(out, verb)
        before: dict[str, Any] = {"verb": verb, "source": source, "job": job}
    else:
        before = read_json(record)
        _check_same(out, before, verb, job, source)
    known = set(before.get("cases", ()))
    if is_new or not known.issuperset(cases):
        write_text(record, json.dumps({**before, "cases": sorted(known.union(cases))}, indent=2) + "\n")
    try:
        yield
    except BaseException:
        if is_new and list(out.iterdir()) == [record]:
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
        f"{out}: unfinished: {len(missing)} of {len(cases)} images are missing ({listed}); rerun the interrupted "
        f"`boxel {verb}` to resume it"
    )


def wanted_cases(out: Path) -> list[str]:
    """The cases that the command which writes into `out` was given; empty if it is not known."""
    return _wanted(out)[1]


def _wanted(out: Path) -> tuple[str, list[str]]:
    record = read_json(out / RECORD) if (out / RECORD).is_file() else {}
    record = record if isinstance(record, dict) else {}
    return str(record.get("verb", "")), list(record.get("cases", ()))


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


def _check_same(out: Path, before: Any, verb: str, job: Mapping[str, Any], source: str) -> None:
    if not isinstance(before, dict) or not isinstance(before.get("job"), dict):
        raise ValueError(f"{out / RECORD}: not a record of Boxel; choose a new or empty folder with --out")
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
