"""What the tests of this folder share."""

from __future__ import annotations

import pytest

from intaglio.native.pyext import extension


@pytest.fixture(params=["extension", "ctypes"])
def loader(request):
    if request.param == "extension" and extension()[0] is None:
        pytest.skip(extension()[1])
    return request.param
