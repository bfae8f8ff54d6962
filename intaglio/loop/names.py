"""Names of a loop program: identifiers, because its text is Python-like, and distinct."""

from __future__ import annotations

import keyword
import re


def identifier(name: str) -> str:
    """An identifier near to a name: `onnx::Conv_12` becomes `onnx_Conv_12`."""
    text = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    if not text or text[0].isdigit():
        text = f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) else text


def unique_name(wanted: str, taken: set[str]) -> str:
    """An identifier near to a name, with a number behind it when it is taken; it is taken from now on."""
    base = identifier(wanted)
    name, k = base, 0
    while name in taken:
        k += 1
        name = f"{base}_{k}"
    taken.add(name)
    return name
