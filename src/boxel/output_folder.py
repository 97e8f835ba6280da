"""Output folders: which a command may write into, and where the files of many cases are in them.

A command writes into new and empty folders, and into those that hold its own earlier output. The files of more than
`MANY` cases are divided among 256 subfolders, each named by the first two digits of the hash of the case name.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from boxel.files import remove_temporaries, write_new, write_text
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_json
from boxel.locks import LOCK, lock_of, locked, remove_left_over_locks
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
    option: str = "--out",
) -> Iterator[None]:
    """Write into `out` while this is entered; a record there lets the same command, and no other, continue later.

    What killed processes left there is removed. The record is removed again if an error leaves nothing else behind.

    Args:
        out: the folder.
        verb: the command, such as `"predict"`.
        job: what must be the same when the command continues, by the name that users know; JSON-ready.
        source: where the output comes from, for the message of a later command with another job.
        cases: what will be written, case by case; kept, so that `unfinished` knows what an interrupted command lacks.
        shared: several processes may work here at the same time, each on cases of its own; otherwise one alone may.
        option: how users choose the folder.

    Raises:
        ValueError: `out` is a file, or holds anything else than output of the same command with the same job; another
            process works there; a folder in it is a link.
    """
    out, created = Path(out), not Path(out).exists()
    _check_free(out, verb, option)
    job = json.loads(json.dumps(dict(job or {})))
    before: dict[str, Any] = {"verb": verb, "source": source, "job": job, "cases": sorted(cases)}
    try:
        with nullcontext() if shared else locked(out, f"boxel {verb}"):
            out.mkdir(parents=True, exist_ok=True)
            _refuse_links(out, option)
            remove_left_over(out)
            with _recorded(out, before, shared, option):
                yield
    except BaseException:
        if created and not shared:
            with suppress(OSError):  # something is in it
                out.rmdir()
        raise


@contextmanager
def working_in(out: Path, verb: str) -> Iterator[None]:
    """Hold the lock of a folder; what killed processes left there is removed.

    Raises:
        ValueError: another process works there.
    """
    with locked(out, f"boxel {verb}"):
        remove_left_over(out)
        yield


def remove_left_over(folder: Path) -> None:
    """Remove the temporary files and the locks of cases that killed processes left in a folder and its subfolders."""
    remove_temporaries(folder)
    remove_left_over_locks(folder)


def lock_of_case(case: str) -> str:
    """The name of the lock that a process holds while it writes the files of a case."""
    return lock_of(hashlib.sha256(case.encode("utf-8", "surrogatepass")).hexdigest())


@contextmanager
def _recorded(out: Path, mine: Mapping[str, Any], shared: bool, option: str) -> Iterator[None]:
    record = out / RECORD
    is_new = _write_record(record, mine, option)
    if not is_new:
        before = read_json(record, _Record, f"choose a new or empty folder with {option}")
        _check_same(out, before, mine, option)
        known = set(before.get("cases", ()))
        if not known.issuperset(mine["cases"]):
            write_text(record, _as_text({**before, "cases": sorted(known.union(mine["cases"]))}))
    try:
        yield
    except BaseException:
        if is_new and not shared and {path.name for path in out.iterdir()} <= {RECORD, LOCK}:
            record.unlink()
        raise


def _refuse_links(out: Path, option: str) -> None:
    for place, folders, _ in os.walk(out):
        for folder in (Path(place, name) for name in folders):
            if folder.is_symlink():
                raise ValueError(
                    f"{folder}: is a link, and nothing is written through links; put the folder itself there, "
                    f"or choose another folder with {option}"
                )


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
    """Raise ValueError if `path` exists and does not begin like the file that the command writes.

    What killed processes left beside it is removed.
    """
    remove_temporaries(path.parent, below=False)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; choose a file with --out")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(begin.encode())) != begin.encode():
                raise ValueError(f"{path}: exists, and `boxel {verb}` did not write it; choose another file with --out")


def _check_free(out: Path, verb: str, option: str) -> None:
    """Raise ValueError if the folder holds anything, unless it has a record."""
    try:
        if not (out / RECORD).exists():
            check_empty(out, verb, option=option)
    except ValueError:
        if not (out / RECORD).exists():  # another process was faster, and writes already
            raise


def _write_record(record: Path, content: Mapping[str, Any], option: str) -> bool:
    """Write the record unless there is one; return whether this process, and not another one, wrote it."""
    _check_free(record.parent, content["verb"], option)
    return not record.exists() and write_new(record, _as_text(content).encode())


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _check_same(out: Path, before: Any, mine: Mapping[str, Any], option: str) -> None:
    verb, job, source = mine["verb"], mine["job"], mine["source"]
    if before.get("verb") != verb:
        raise ValueError(
            f"{out}: holds the output of `boxel {before.get('verb')}`; choose a new or empty folder with {option}"
        )
    old = before["job"]
    changes = [
        f"{key} {_value(old, key)} instead of {_value(job, key)}"
        for key in sorted(old.keys() | job.keys())
        if old.get(key) != job.get(key)
    ]
    if changes:
        origin = f" for {before.get('source')}" if before.get("source") not in ("", None, source) else ""
        raise ValueError(
            f"{out}: holds the output of `boxel {verb}`{origin} with {', '.join(changes)}; choose another folder with "
            f"{option}, or repeat that command to resume it"
        )


def _value(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "not set"
