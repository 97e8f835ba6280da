"""Files of tensors of a run: written whole or not at all, read with one clear error. No pickle."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from boxel.files import write_bytes
from boxel.inputs.folders import refuse_special

Content = TypeVar("Content")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; it appears whole or not at all."""
    write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata))


def load_tensors(path: Path, fix: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata.

    Args:
        fix: what a user may do about a damaged file.

    Raises:
        ValueError: there is no such file, or it is empty, cut short or otherwise damaged; names it.
    """
    return _read(path, fix, lambda file: ({key: file.get_tensor(key) for key in file.keys()}, _metadata(file)))  # noqa: SIM118


def load_metadata(path: Path, fix: str) -> dict[str, str]:
    """The metadata of a safetensors file, without reading its tensors; arguments and errors as of `load_tensors`."""
    return _read(path, fix, _metadata)


def _metadata(file: Any) -> dict[str, str]:
    return file.metadata() or {}


def _read(path: Path, fix: str, content: Callable[[Any], Content]) -> Content:
    refuse_special(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file; {fix}")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty; {fix}")
    try:
        with safe_open(path, framework="pt") as file:
            return content(file)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}), it may be cut short; {fix}") from None


def misfit(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How tensors differ from those of a model in names and shapes, such as `"2 missing, such as a.weight"`."""
    shapes = [name for name in own.keys() & given.keys() if own[name].shape != given[name].shape]
    parts = [
        ("missing", sorted(own.keys() - given.keys())),
        ("surplus", sorted(given.keys() - own.keys())),
        ("of another shape", sorted(shapes)),
    ]
    return "; ".join(f"{len(names)} {kind}, such as {names[0]}" for kind, names in parts if names)


def not_finite(tensors: Mapping[str, Tensor], model: nn.Module) -> list[str]:
    """The names of tensors of a training of `model` with values that are NaN or infinite.

    A buffer may be infinite: a model of a plug-in may keep a mask for attention in one.
    """
    buffers = {name for name, _ in model.named_buffers()}

    def is_good(name: str, tensor: Tensor) -> bool:
        bad = tensor.isnan() if name.rpartition("/")[2] in buffers else ~tensor.isfinite()
        return not bool(bad.any())

    return [name for name, tensor in tensors.items() if not is_good(name, tensor)]


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from a safetensors file.

    Raises:
        ValueError: the file is damaged, has weights of another model, or such that are not finite; names it and what
            does not fit.
    """
    state, _ = load_tensors(path, "put back a copy of it, or train again into another folder")
    if what := misfit(model.state_dict(), state):
        raise ValueError(
            f"{path}: weights of another model than the run's config.json describes ({what} tensors); "
            "put back the config.json and task.json that this file was trained with"
        )
    refuse_not_finite(path, state, model, "put back a copy of it, or train again with a lower train.lr")
    model.load_state_dict(state)


def refuse_not_finite(path: Path, tensors: Mapping[str, Tensor], model: nn.Module, fix: str) -> None:
    """Raise ValueError where values are NaN or infinite; names the file and the first tensor."""
    if names := not_finite(tensors, model):
        raise ValueError(
            f"{path}: {len(names)} of {len(tensors)} tensors, such as {names[0]}, have values that are not finite "
            f"(NaN or infinite), which no training or prediction can use; {fix}"
        )
