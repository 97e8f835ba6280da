"""Values of other types, put into each place of a valid JSON value."""

ODD = [None, True, -1, 1e300, 10**30, float("nan"), "", "x", [], {}, [[1]], {"a": [1]}]


def places(value, place=()):
    """Where in a JSON value something can be replaced; of lists the first three."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*place, key))


def put(value, place, new):
    if not place:
        return new
    value = value.copy()
    value[place[0]] = put(value[place[0]], place[1:], new)
    return value
