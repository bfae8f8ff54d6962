"""Which helper functions a C file needs: asked for by name while it is emitted, printed once each."""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.native import (
    math_exp,
    math_trig,
    runtime,
    runtime_convert,
    runtime_dots,
    runtime_hints,
    runtime_random,
    runtime_threads,
    runtime_vector,
)
from intaglio.native.helper import Helper
from intaglio.native.tree import Verbatim
from intaglio.shared.dtypes import DType


class Helpers:
    """The helpers and headers asked for so far, in the order in which they must be printed."""

    def __init__(self) -> None:
        self.found: dict[str, Helper] = {}
        self.headers: set[str] = set()

    def use(self, name: str) -> str:
        """Ask for a helper; returns its name. KeyError when there is none of that name."""
        if name not in self.found:
            helper = find(name)
            for needed in helper.needs:
                self.use(needed)
            self.found[name] = helper
            self.headers.update(helper.headers)
        return name

    def use_lanewise(self, function: str, dtype: DType, lanes: int, arity: int) -> str:
        """Ask for the vector form of a scalar C function; returns its name."""
        name = runtime_vector.lanewise_name(function, dtype, lanes)
        if name not in self.found:
            if function in math_exp.CORES:
                core = math_exp.CORES[function][0]
                self.use_lanewise(core, dtype, lanes, arity)
                helper = runtime_vector.bounded_core(function, dtype, lanes)
            elif name in math_exp.HELPERS:
                helper = math_exp.HELPERS[name]
            else:
                if function in math_exp.HELPERS:
                    self.use(function)
                helper = runtime_vector.lanewise(function, dtype, lanes, arity)
            for needed in helper.needs:
                self.use(needed)
            self.found[name] = helper
        return name

    def items(self) -> Iterator[Verbatim]:
        for helper in self.found.values():
            yield Verbatim(helper.text)

    def snapshot(self) -> tuple[dict[str, Helper], set[str]]:
        return dict(self.found), set(self.headers)

    def restore(self, held: tuple[dict[str, Helper], set[str]]) -> None:
        self.found, self.headers = held


def find(name: str) -> Helper:
    """The helper of that name, from the first table that has it."""
    for own in (math_exp.HELPERS, math_trig.HELPERS):
        if name in own:
            return own[name]
    for table in (
        runtime_threads.make,
        runtime_hints.make,
        runtime_convert.make,
        runtime_dots.make,
        runtime_vector.make,
        runtime_random.make,
        runtime.make,
    ):
        made = table(name)
        if made is not None:
            return made
    raise KeyError(f"no helper function {name}")
