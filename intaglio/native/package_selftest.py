"""The self-test of an exported program: recorded inputs and results, so that a machine can prove itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.native.helper import element_type
from intaglio.native.package_api import Api, Field
from intaglio.native.package_weights import INLINE_BYTES, filled, little_endian, numbers
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError

Array = np.ndarray[Any, Any]

TOLERANCES = {"f64": 1e-9, "f32": 1e-4, "f16": 1e-2, "bf16": 5e-2}
"""Largest error accepted, relative to the largest element of the array."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call: its inputs, in order, and what it returned."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    symbols: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """Calls made one after another from the initial states, and the states after the last one."""

    steps: tuple[Step, ...]
    states_after: tuple[Array, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """An array of the self-test: `rows` calls by `size` elements (the longest, when lengths differ)."""

    name: str
    field: Field
    rows: tuple[Array, ...]

    @property
    def size(self) -> int:
        return max(1, *(row.size for row in self.rows))

    def padded(self) -> Array:
        """The rows one below the other, filled up with zeros."""
        table = np.zeros((len(self.rows), self.size), self.field.dtype.numpy)
        for row, values in zip(table, self.rows, strict=True):
            row[: values.size] = values.reshape(-1)
        return table

    @property
    def varies(self) -> bool:
        """Whether the number of elements differs from call to call."""
        return self.field.is_symbolic


def selftest_files(api: Api, recording: Recording) -> dict[str, bytes]:
    """`selftest.c` and its data: a header when small, else a binary file that the test reads.

    Raises ArgumentError or ShapeError when the recording does not belong to the program.
    """
    records = _records(api, recording)
    total = sum(record.padded().nbytes for record in records)
    inline = total <= INLINE_BYTES
    source = _source(api, recording, records, inline)
    if inline:
        return {"selftest.c": source.encode(), "selftest_data.h": _data_header(api, records).encode()}
    data = b"".join(little_endian(record.padded()) for record in records)
    return {"selftest.c": source.encode(), "selftest.bin": data}


def _records(api: Api, recording: Recording) -> list[Record]:
    if not recording.steps:
        raise ArgumentError(f"{api.name}: a self-test needs at least one recorded call")
    records = []
    for what, fields in (("inputs", api.inputs), ("outputs", api.outputs)):
        prefix = "given" if what == "inputs" else "expected"
        for k, field in enumerate(fields):
            rows = tuple(getattr(step, what)[k] for step in recording.steps)
            for row in rows:
                _check(field, row)
            records.append(Record(f"{prefix}_{field.name}", field, rows))
    for field, after in zip(api.states, recording.states_after, strict=bool(recording.states_after)):
        _check(field, after)
        records.append(Record(f"after_{field.name}", field, (after,)))
    return records


def _check(field: Field, row: Array) -> None:
    if dtypes.from_numpy(row.dtype) != field.dtype or (not field.is_symbolic and row.shape != field.shape):
        raise ShapeError(
            f"self-test: {field.name} is {field.dtype}{list(field.shape)} "
            f"but the recorded array is {row.dtype}{list(row.shape)}"
        )


def _data_header(api: Api, records: Sequence[Record]) -> str:
    lines = [
        f"/* Recorded calls of {api.name}: what was given, what is expected, the states afterwards. */",
        "#include <math.h>",
        "",
    ]
    for record in records:
        type_ = element_type(record.field.dtype)
        lines.append(f"static const {type_} {record.name}[{len(record.rows)}][{record.size}] = {{")
        for row in record.padded():
            lines += ["    {", *filled(numbers(row), " " * 8), "    },"]
        lines += ["};", ""]
    return "\n".join(lines[:-1]) + "\n"


def _source(api: Api, recording: Recording, records: Sequence[Record], inline: bool) -> str:
    calls = len(recording.steps)
    results = [r for r in records if r.name.startswith("expected_")]
    after = [r for r in records if r.name.startswith("after_")]
    kinds = sorted({r.field.dtype.name for r in [*results, *after]})
    parts = [
        f"/* Runs {api.name} on recorded inputs, {calls} calls, and compares with the recorded results. */",
        "\n".join(f"#include <{h}.h>" for h in ("math", "stdbool", "stdint", "stdio", "stdlib")),
        f'#include "{api.name}.h"' + ('\n#include "selftest_data.h"' if inline else ""),
        f"#define CALLS {calls}",
    ]
    if not inline:
        parts.append(_arrays(records))
    parts += [_sizes(record) for record in [*results, *after] if record.varies]
    if api.symbols:
        parts.append(_symbols(recording))
    parts.append("/* What the program writes. */\n" + "\n".join(_result(r) for r in results))
    parts += [_DECODE[name] for name in kinds if name in _DECODE]
    if any(name in TOLERANCES for name in kinds):
        parts.append(_COMPARE)
    parts += [_check_function(name) for name in kinds]
    if not inline:
        parts.append(_reader(records))
    parts.append(_main(api, results, after, inline))
    return "\n\n".join(parts) + "\n"


def _arrays(records: Sequence[Record]) -> str:
    lines = ["/* Read from the file selftest.bin, in this order. */"]
    for record in records:
        lines.append(
            f"static {element_type(record.field.dtype)} {record.name}[{len(record.rows)}][{record.size}];"
        )
    return "\n".join(lines)


def _sizes(record: Record) -> str:
    sizes = ", ".join(str(row.size) for row in record.rows)
    return f"static const size_t {record.name}_size[{len(record.rows)}] = {{{sizes}}};"


def _symbols(recording: Recording) -> str:
    rows = ", ".join("{" + ", ".join(map(str, step.symbols)) + "}" for step in recording.steps)
    count = len(recording.steps[0].symbols)
    return (
        f"/* The sizes that each call is given. */\nstatic const int64_t sizes[CALLS][{count}] = {{{rows}}};"
    )


def _result(record: Record) -> str:
    return f"static {element_type(record.field.dtype)} {record.field.name}[{record.size}];"


def _check_function(name: str) -> str:
    type_ = element_type(dtypes.BY_NAME[name])
    if name not in TOLERANCES:
        return _CHECK_EXACT.replace("TYPE", type_).replace("KIND", name)
    value = f"{name}_value(%s[i])" if name in _DECODE else "(double)%s[i]"
    return (
        _CHECK.replace("TYPE", type_)
        .replace("KIND", name)
        .replace("TOLERANCE", repr(TOLERANCES[name]))
        .replace("GOT", value % "got")
        .replace("EXPECTED", value % "expected")
    )


def _reader(records: Sequence[Record]) -> str:
    reads = [f"fread({record.name}, sizeof {record.name}, 1, file) == 1" for record in records]
    return _READ.replace("READS", "\n              && ".join(reads))


def _main(api: Api, results: Sequence[Record], after: Sequence[Record], inline: bool) -> str:
    sizes = [f"sizes[call][{k}]" for k in range(len(api.symbols))]
    given = [f"given_{field.name}[call]" for field in api.inputs]
    written = [record.field.name for record in results]
    arguments = ", ".join([f"{api.instance}", *sizes, *given, *written])
    lines = ["int main(int argc, char **argv) {", f"    static {api.name} instance;"]
    lines.append(f"    {api.name} *{api.instance} = &instance;")
    lines.append("    int wrong = 0;")
    lines.append("")
    if inline:
        lines += ["    (void)argc;", "    (void)argv;"]
    else:
        lines += [
            '    if (read_records(argc > 1 ? argv[1] : "selftest.bin") != 0) {',
            '        fprintf(stderr, "selftest: cannot read the recorded calls\\n");',
            "        return EXIT_FAILURE;",
            "    }",
        ]
    lines += [
        f"    if ({api.name}_init({api.instance}) != 0) {{",
        '        fprintf(stderr, "selftest: out of memory\\n");',
        "        return EXIT_FAILURE;",
        "    }",
        "    for (int call = 0; call < CALLS; call++) {",
        f"        {api.name}_{api.entry}({arguments});",
    ]
    lines += [f"        wrong += {_compared(r, r.field.name, 'call')};" for r in results]
    lines.append("    }")
    lines += [f"    wrong += {_compared(r, f'{api.instance}->{r.field.name}', '0')};" for r in after]
    lines += [
        f"    {api.name}_free({api.instance});",
        "    if (wrong != 0) {",
        '        printf("selftest FAILED: %d arrays differ\\n", wrong);',
        "        return EXIT_FAILURE;",
        "    }",
        _passed(results, after),
        "    return EXIT_SUCCESS;",
        "}",
    ]
    return "\n".join(lines)


def _passed(results: Sequence[Record], after: Sequence[Record]) -> str:
    if any(record.field.dtype.name in TOLERANCES for record in (*results, *after)):
        return (
            '    printf("selftest passed: %d calls, largest error %.2g of the largest element\\n", '
            "CALLS, worst);"
        )
    return '    printf("selftest passed: %d calls, all results equal\\n", CALLS);'


def _compared(record: Record, got: str, row: str) -> str:
    size = f"{record.name}_size[{row}]" if record.varies else str(record.rows[0].size)
    label = "state" if record.name.startswith("after_") else "output"
    kind = record.field.dtype.name
    return f'differs_{kind}("{label} {record.field.name}", {got}, {record.name}[{row}], {size})'


_DECODE = {
    "bf16": """/* The value of a bfloat16, given its bits. */
static double bf16_value(uint16_t bits) {
    union {
        uint32_t bits;
        float value;
    } wide = {(uint32_t)bits << 16};
    return (double)wide.value;
}""",
    "f16": """/* The value of a half-precision number, given its bits. */
static double f16_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31) {
        return fraction ? (double)NAN : sign * (double)INFINITY;
    }
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}""",
}

_COMPARE = """/* Arrays of smaller numbers are judged by absolute errors: some are only rounding noise. */
#define SMALL 0.1

/* The largest error so far, relative to the largest element of its array. */
static double worst;

/* Whether two numbers are equal, or both not numbers. */
static bool same(double got, double expected) {
    return got == expected || (isnan(got) && isnan(expected));
}

/* Judge an array by its largest error: 1 and a message when it is above the tolerance. */
static int judge(const char *what, double error, double largest, double tolerance) {
    const double relative = error / fmax(largest, SMALL);
    if (relative > worst) {
        worst = relative;
    }
    if (relative <= tolerance) {
        return 0;
    }
    printf("%s: error %.3g, largest element %.3g, tolerance %.3g\\n", what, error, largest, tolerance);
    return 1;
}"""

_CHECK = """static int differs_KIND(const char *what, const TYPE *got, const TYPE *expected,
        size_t size) {
    double error = 0, largest = 0;
    for (size_t i = 0; i < size; i++) {
        const double a = GOT, b = EXPECTED;
        if (isfinite(b) && fabs(b) > largest) {
            largest = fabs(b);
        }
        if (!same(a, b) && !(fabs(a - b) <= error)) {
            error = isfinite(a - b) ? fabs(a - b) : (double)INFINITY;
        }
    }
    return judge(what, error, largest, TOLERANCE);
}"""

_CHECK_EXACT = """static int differs_KIND(const char *what, const TYPE *got, const TYPE *expected,
        size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (got[i] != expected[i]) {
            printf("%s: element %zu differs\\n", what, i);
            return 1;
        }
    }
    return 0;
}"""

_READ = """static int read_records(const char *path) {
    FILE *file = fopen(path, "rb");
    int ok;

    if (file == NULL) {
        return -1;
    }
    ok = READS;
    fclose(file);
    return ok ? 0 : -1;
}"""
