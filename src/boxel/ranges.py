"""Ranges of numbers: those that many settings share, and the range of a field in words."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args

from pydantic import Field

# A probability, share, score or overlap.
ZeroToOne = Annotated[float, Field(ge=0, le=1)]
# Channels of a layer; a wider one fits no memory.
Width = Annotated[int, Field(ge=1, le=65_536)]
# Axes of an image.
Rank = Annotated[int, Field(ge=1, le=3)]
# Neighbouring slices on either side that a model sees.
Context = Annotated[int, Field(ge=0, le=100)]
# Whole numbers are 64-bit integers in arrays and tensors.
MOST = 2**63 - 1

_BOUNDS = ("ge", "gt", "le", "lt")


def bounds(annotation: Any, metadata: Iterable[Any] = ()) -> Iterator[tuple[str, float]]:
    """The bounds of the numbers in an annotation, such as `("ge", 0)`, and those in the metadata of its field."""
    for part in (*metadata, *getattr(annotation, "__metadata__", ())):
        for limit in (part, *getattr(part, "metadata", ())):
            yield from ((name, getattr(limit, name)) for name in _BOUNDS if getattr(limit, name, None) is not None)
    for inner in get_args(annotation):
        yield from bounds(inner)


def range_in_words(annotation: Any, metadata: Iterable[Any]) -> str:
    """`"0 to below 1"`; empty unless there is one lower and one upper bound."""
    found = set(bounds(annotation, metadata))
    limits = dict(found)
    if len(found) != 2 or len(limits) != 2 or len(limits.keys() & {"ge", "gt"}) != 1:
        return ""
    lower = f"{limits['ge']}" if "ge" in limits else f"above {limits['gt']}"
    return f"{lower} to " + (f"{limits['le']}" if "le" in limits else f"below {limits['lt']}")


def limit_whole_numbers(schema: Any) -> Any:
    """A schema of pydantic with the limits of 64 bits at each whole number that has none on that side."""
    if isinstance(schema, dict):
        if schema.get("type") == "int":
            if not schema.keys() & {"le", "lt"}:
                schema["le"] = MOST
            if not schema.keys() & {"ge", "gt"}:
                schema["ge"] = -MOST
        for part in schema.values():
            limit_whole_numbers(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            limit_whole_numbers(part)
    return schema
