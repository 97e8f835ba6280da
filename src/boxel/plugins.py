"""Plug-ins: models, readers, metrics and export formats from a file or an installed package, registered under a name.

Everything that users may add is kept in a `Registry`. A plug-in is Python code that adds to one when it is imported: a
file that the user names (`load_plugin`, `--plugin FILE`), or a package with an entry point in the group
`boxel.plugins`. Packages are imported only when a name is unknown or a registry is listed.
"""

import hashlib
import sys
import traceback
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

__all__ = ["Plugin", "Registry", "failed_plugin", "is_registered", "load_plugin", "loaded_plugins"]

T = TypeVar("T")
GROUP = "boxel.plugins"


@dataclass(frozen=True)
class Plugin:
    """A plug-in file that was imported.

    Attributes:
        path: The file.
        sha256: The hash of its content, in hexadecimal.
        source: The content.
        module: The module that it became.
        registered: What it registers, each `"kind: name"`, such as `"model: my_model"`.
    """

    path: Path
    sha256: str
    source: bytes = field(repr=False)
    module: ModuleType = field(repr=False)
    registered: tuple[str, ...]


class Registry(MutableMapping[str, T], Generic[T]):
    """Things that are registered under a name, with those of installed plug-in packages.

    Args:
        kind: What the things are, for messages, such as `"export format"`.

    Example:
        >>> shapes = Registry("shape")
        >>> shapes["circle"] = 1
        >>> shapes["circle"] = 2
        Traceback (most recent call last):
        ...
        ValueError: shape 'circle' is registered already; choose another name
    """

    known: list["Registry"] = []

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._files: dict[str, str] = {}
        self.known.append(self)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            _load_packages()
        return self._entries[name]

    def __setitem__(self, name: str, value: T) -> None:
        if name in self._entries and not _same_definition(self._entries[name], value):
            by = f" by {self._files[name]}" if name in self._files else ""
            raise ValueError(f"{self.kind} {name!r} is registered already{by}; choose another name")
        self._entries[name] = value
        if _importing and not _running_module().startswith(
            "boxel."
        ):  # a plug-in may be the first to import Boxel's own
            path, registered = _importing[-1]
            self._files[name] = path
            registered.append((self, name))

    def __delitem__(self, name: str) -> None:
        del self._entries[name]
        self._files.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        _load_packages()
        return iter(tuple(self._entries))

    def of_plugin(self, name: str) -> bool:
        """Whether a plug-in registered the name, and not Boxel."""
        return name in self._files

    def __len__(self) -> int:
        _load_packages()
        return len(self._entries)


_importing: list[tuple[str, list[tuple[Registry, str]]]] = []
_plugins: dict[str, Plugin] = {}
_packages: list[EntryPoint] | None = None


def load_plugin(path: Path | str, *, sha256: str = "") -> Plugin:
    """Import a plug-in file once; what it registers can then be used by name.

    A file whose content was imported before is not imported again. A file that fails registers nothing.

    Args:
        path: The file.
        sha256: The hash that its content must have, in hexadecimal; empty for any.

    Raises:
        ValueError: The file cannot be read or has another hash, an error occurs in it (the message names file and
            line), or a name that it registers is taken.
    """
    path = Path(path)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"plug-in {path}: cannot be read ({error.strerror}); give a Python file") from None
    actual = hashlib.sha256(source).hexdigest()
    if sha256 and actual != sha256:
        raise ValueError(f"plug-in {path}: was changed after it was recorded; restore it, or give the file you trust")
    sha256 = actual
    if sha256 in _plugins:
        return _plugins[sha256]
    module = ModuleType(f"_boxel_plugin_{path.stem}_{sha256[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses, pickle and inspect look the module up here
    try:
        with _registering(str(path)) as registered:
            exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise ValueError(f"plug-in {_place(error, path)}: {type(error).__name__}: {_text(error)}") from error
    if not registered:
        warnings.warn(f"plug-in {path}: registers nothing; see docs/how_to/extend.md", stacklevel=2)
    names = tuple(f"{registry.kind}: {name}" for registry, name in registered)
    _plugins[sha256] = Plugin(path, sha256, source, module, names)
    return _plugins[sha256]


def is_registered(entry: str) -> bool:
    """Whether something is registered as `entry`, a `"kind: name"`."""
    kind, _, name = entry.partition(": ")
    return any(registry.kind == kind and name in registry for registry in Registry.known)


def loaded_plugins() -> tuple[Plugin, ...]:
    """The plug-in files that were imported, in that order."""
    return tuple(_plugins.values())


def failed_plugin(error: BaseException) -> str:
    """`plug-in FILE:LINE: ERROR: TEXT` of an error in a plug-in file that was imported; empty for any other error."""
    files = {str(plugin.path): plugin.path for plugin in loaded_plugins()}
    inner = [files[frame.filename] for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f"plug-in {_place(error, inner[-1])}: {type(error).__name__}: {_text(error)}" if inner else ""


@contextmanager
def _registering(source: str) -> Iterator[list[tuple[Registry, str]]]:
    """Collect what is registered meanwhile; after an error, no registry keeps any of it."""
    registered: list[tuple[Registry, str]] = []
    _importing.append((source, registered))
    try:
        yield registered
    except BaseException:
        for registry, name in registered:
            registry.pop(name, None)
        raise
    finally:
        _importing.pop()


def _load_packages() -> None:
    """Import the entry points of installed packages, once; a broken one is a warning."""
    global _packages
    if _packages is not None:
        return
    _packages = list(entry_points(group=GROUP))  # set first: they use the registries
    for entry in _packages:
        try:
            with _registering(f"the package of {entry.value}"):
                entry.load()
        except Exception as error:
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
            warnings.warn(
                f"plug-in {entry.name!r} of {package} is left out: {type(error).__name__}: {_text(error)}; "
                "update or uninstall the package",
                stacklevel=2,
            )


def _running_module() -> str:
    """The name of the innermost module that is being imported."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return str(frame.f_globals["__name__"])


def _place(error: BaseException, path: Path) -> str:
    """`FILE:LINE` of an error in a plug-in."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _text(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _same_definition(old: object, new: object) -> bool:
    """Whether a class is defined once more, as in a cell of a notebook that is run again."""
    names = [(one.__module__, one.__qualname__) if isinstance(one, type) else one for one in (old, new)]
    return names[0] == names[1]
