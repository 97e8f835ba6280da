"""How numbers are put into words."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as `1 image`, `2,000 images` and `2 boxes`; `plural` where it is not noun + s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
