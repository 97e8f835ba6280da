"""Every operator with compiled kernels is held to the same tests as its plain version."""

import pytest


@pytest.fixture(params=["compiled", "plain"])
def engine(request, monkeypatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr("boxel.ops.arrays._compiled", lambda: None)
    return request.param
