"""Which ONNX operators the reader takes: the table of the documentation.

python -m intaglio.readers.onnx.coverage
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from onnx import defs

from intaglio.readers.onnx import handlers
from intaglio.readers.onnx.registry import WHOLE, known_operators

assert handlers.LOADED
MISSING = "not supported"
NAMES = {"": "ai.onnx"}


def coverage() -> dict[str, dict[str, str]]:
    """Of every domain the operators, each with the operator sets in which it is taken."""
    declared: dict[tuple[str, str], list[defs.OpSchema]] = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        declared[schema.domain, schema.name].append(schema)
    known = known_operators()
    found: dict[str, dict[str, str]] = {}
    for domain, name in sorted({*declared, *known}):
        since = known.get((domain, name))
        sets = MISSING if since is None else _sets(domain, since, declared[domain, name])
        found.setdefault(NAMES.get(domain, domain), {})[name] = sets
    return found


def _sets(domain: str, since: int, schemas: Sequence[defs.OpSchema]) -> str:
    """The first operator set of an operator that is taken; with the last one where it was given up."""
    first = max(since, min((s.since_version for s in schemas), default=1), 1 if domain else WHOLE)
    newest = max(schemas, key=lambda s: s.since_version, default=None)
    ended = newest is not None and newest.deprecated
    return f"{first} to {newest.since_version - 1}" if newest is not None and ended else str(first)


def table() -> str:
    """The tables as Markdown, one for each domain."""
    lines = []
    for domain, operators in coverage().items():
        taken = sum(sets != MISSING for sets in operators.values())
        total = "" if taken == len(operators) else f" of {len(operators)}"
        lines += [f"### `{domain}`: {taken}{total} operators", ""]
        lines += ["| operator | operator set |", "|---|---|"]
        lines += [f"| `{name}` | {sets} |" for name, sets in operators.items()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(), end="")
