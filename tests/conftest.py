"""Settings of the whole test suite: every pass is verified, and nothing touches the user's cache."""

from __future__ import annotations

import os

os.environ.setdefault("INTAGLIO_VERIFY", "1")
