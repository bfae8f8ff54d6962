"""Settings of the whole test suite: every pass is verified, and nothing touches the user's cache."""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ.setdefault("INTAGLIO_VERIFY", "1")

if os.environ.get("INTAGLIO_REQUIRE_MODELS"):
    missing = [name for name in ("onnxruntime", "sklearn", "torch") if find_spec(name) is None]
    if missing:
        raise RuntimeError(f"without {missing} tests of real models would be skipped, but they are required")
