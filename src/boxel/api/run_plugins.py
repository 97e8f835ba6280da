"""The plug-in files of a run: kept in its folder, and never run from there unless the user allows it.

RUN/plugins.json    name, hash and registered names of each plug-in that the run's configuration uses
    plugins/*.py    a copy of each
"""

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from boxel.config import Config
from boxel.files import write_bytes, write_text
from boxel.inputs.texts import read_json
from boxel.plugins import Plugin, is_registered, load_plugin, loaded_plugins


class PluginRecord(Config):
    """What `plugins.json` says about one file.

    Attributes:
        sha256: The hash of its content.
        registers: What it registers, each `"kind: name"`.
    """

    sha256: str
    registers: tuple[str, ...]


def used_plugins(experiment: Config) -> list[Plugin]:
    """The imported plug-ins that register a name which occurs in a configuration (also as `name@0.50`)."""
    words = {word.partition("@")[0] for word in _words(experiment.to_dict())}
    return [plugin for plugin in loaded_plugins() if words & {entry.split(": ")[1] for entry in plugin.registered}]


def record_plugins(run: Path, experiment: Config) -> None:
    """Keep the plug-ins of a run that starts, or check that they are those that it started with.

    Raises:
        ValueError: The run started with other plug-ins, or two plug-ins have the same file name.
    """
    plugins = used_plugins(experiment)
    names = [plugin.path.name for plugin in plugins]
    if len(set(names)) < len(names):
        raise ValueError(f"plug-ins of one run need different file names, got {', '.join(names)}; rename one")
    records = {
        plugin.path.name: PluginRecord(sha256=plugin.sha256, registers=plugin.registered).to_dict()
        for plugin in plugins
    }
    before = _records(run)
    if (run / "config.json").exists() and {one.sha256 for one in before.values()} != {p.sha256 for p in plugins}:
        name = next(iter({*before, *names}))
        raise ValueError(
            f"{run}: was started with another version of the plug-in {name}; resume it with --plugin "
            f"{run / 'plugins' / name}, or choose another folder with --out"
        )
    for plugin in plugins:
        write_bytes(run / "plugins" / plugin.path.name, plugin.source)
    if plugins:
        write_text(run / "plugins.json", json.dumps(records, indent=2) + "\n")


def is_needed(registered: Iterable[str]) -> bool:
    """Whether a run's models need a plug-in that registers these; only training needs the metrics of `select_by`."""
    return any(entry.partition(": ")[0] not in ("metric", "export format", "data set format") for entry in registered)


def require_plugins(run: Path, *, trust: bool = False) -> None:
    """Check that the plug-ins that a run's models need are imported; with `trust`, import all copies in its folder.

    Warns where the user gave a file of other content than the run was trained with.

    Raises:
        ValueError: A plug-in is missing, or the copy in the folder is missing or changed.
    """
    for name, record in _records(run).items():
        known = any(plugin.sha256 == record.sha256 for plugin in loaded_plugins())
        if known or not (trust or is_needed(record.registers)):
            continue
        copy = run / "plugins" / name
        if all(is_registered(entry) for entry in record.registers):
            given = [plugin.path for plugin in loaded_plugins() if set(record.registers) & set(plugin.registered)]
            for path in given:
                warnings.warn(f"{path}: differs from {copy}, with which the run was trained", stacklevel=3)
        elif not trust:
            raise ValueError(
                f"{run}: needs the plug-in {name}, which is Python code and is not run unasked; give the file with "
                f"--plugin {name}, or run the copy in the run folder with --trust "
                "(in Python: boxel.load_plugin(FILE) first, or trust=True)"
            )
        else:
            load_plugin(copy, sha256=record.sha256)


def _records(run: Path) -> dict[str, PluginRecord]:
    path = run / "plugins.json"
    records = read_json(path) if path.exists() else {}
    if not isinstance(records, dict) or any(Path(name).name != name for name in records):
        raise ValueError(f"{path}: not a record of plug-ins; train again, or restore the file")
    return {name: PluginRecord.from_dict(record, f"{path}: {name}") for name, record in records.items()}


def _words(values: Any) -> Iterator[str]:
    """Every text in nested plain values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _words(value)
    elif isinstance(values, list):
        for value in values:
            yield from _words(value)
