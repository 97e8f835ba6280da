"""How numbers are put into words."""

UNITS = ((3600, "h"), (60, "min"))


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as `1 image`, `2,000 images` and `2 boxes`; `plural` where it is not noun + s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def counted_of(number: int, total: int, noun: str, one: str, many: str) -> str:
    """How many of all do something: `1 of 2 images is` and `3 of 5 images are`, with a verb for one and for many."""
    return f"{number:,} of {counted(total, noun)} {one if number == 1 else many}"


def time_in_words(seconds: float) -> str:
    """A duration in the largest unit that it has twice, such as `0.25 s`, `90 s`, `12.5 min` and `3.1 h`."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:.3g} {unit}"
