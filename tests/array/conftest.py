"""What the tests of this folder share."""

from __future__ import annotations

import pytest

import intaglio as ig


@pytest.fixture(params=["interpret", "native"])
def jit(request):
    def make(function, **settings):
        if request.param == "native":
            settings = {"threads": 1, "opt": "fast-compile", **settings}
        return ig.jit(function, backend=request.param, **settings)

    return make
