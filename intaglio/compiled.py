"""The compiled object: a model as a callable, as C, and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph
from intaglio.loop.groups import Decision
from intaglio.loop.ir import Program
from intaglio.native import toolchain as toolchains
from intaglio.native.call import CallSpec
from intaglio.native.emit import is_ordered
from intaglio.native.loader import LoadedProgram, load
from intaglio.native.targets import find_target
from intaglio.shared.errors import ArgumentError
from intaglio.shared.target import Target
from intaglio.shared.types import TensorType

Array = np.ndarray[Any, Any]


class Compiled:
    """A compiled model. Calling it takes NumPy arrays (or anything like one) and returns NumPy arrays.

    Attributes:
        graph: the graph it was compiled from.
        program: its loops, with memory planned.
        source: its C.
        decisions: what was fused, and why not what was not.
        seconds: time of each step of the compilation so far.
    """

    def __init__(
        self,
        *,
        graph: Graph,
        program: Program,
        source: str,
        target: Target,
        threads: int,
        toolchain: str | None,
        opt: str,
        settings: dict[str, Any],
        decisions: list[Decision],
        seconds: dict[str, float],
    ) -> None:
        self.graph = graph
        self.program = program
        self.source = source
        self.target = target
        self.threads = threads
        self.opt = opt
        self.settings = settings
        self.decisions = decisions
        self.seconds = seconds
        self._toolchain = toolchain

    def __repr__(self) -> str:
        takes = ", ".join(f"{name}: {type_}" for name, type_ in self.input_types.items())
        gives = ", ".join(f"{name}: {type_}" for name, type_ in self.output_types.items())
        return f"<Compiled {self.program.name}({takes}) -> {gives}>"

    @cached_property
    def loaded(self) -> LoadedProgram:
        """The program in this process; the C compiler runs at first use.

        Raises:
            ToolchainError: there is no compiler, or it failed.
        """
        choice = toolchains.choose(self._toolchain, self.opt)
        library = toolchains.build_shared(
            self.source,
            target=self.target,
            toolchain=choice.toolchain,
            opt=self.opt,
            exact=is_ordered(self.program),
            name=self.program.name,
        )
        return load(library, CallSpec.of(self.program), threads=self.threads)

    def __call__(self, *arrays: Any) -> Any:
        """Run once: one output is an array, several are a tuple."""
        return self.loaded.call(*arrays)

    def run_arrays(self, arrays: Sequence[Any]) -> list[Array]:
        """Run once, positional inputs to a list of outputs."""
        result = self.loaded.call(*arrays)
        return list(result) if isinstance(result, tuple) else [result]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run once, by names. Raises ArgumentError for a missing or unknown name."""
        names = self.input_names
        if set(inputs) != set(names):
            missing, unknown = sorted(set(names) - set(inputs)), sorted(set(inputs) - set(names))
            raise ArgumentError(
                f"{self.program.name}: inputs missing {missing}, unknown {unknown}",
                hint=f"the inputs are {', '.join(names) or 'none'}",
            )
        results = self.run_arrays([inputs[name] for name in names])
        return dict(zip(self.output_names, results, strict=True))

    def bind_state(self, position: int, array: Array) -> None:
        """Keep a state in the memory of `array` from now on (no copy); its content becomes the state's."""
        self.loaded.bind_state(position, array)

    @property
    def states(self) -> dict[str, Array]:
        """What the program keeps between calls, by name; the arrays are the program's own memory."""
        return dict(zip((s.name for s in self.graph.states), self.loaded.states, strict=True))

    @property
    def input_names(self) -> list[str]:
        return [value.name for value in self.graph.inputs]

    @property
    def output_names(self) -> list[str]:
        return list(self.graph.output_names)

    @property
    def input_types(self) -> dict[str, TensorType]:
        return {value.name: value.type for value in self.graph.inputs}

    @property
    def output_types(self) -> dict[str, TensorType]:
        return dict(zip(self.output_names, (value.type for value in self.graph.outputs), strict=True))

    @property
    def arena_bytes(self) -> int:
        """Scratch memory of a call, known at compile time."""
        return self.program.arena_bytes or 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants and states."""
        return sum(
            b.data.nbytes for b in [*self.program.constants, *self.program.states] if b.data is not None
        )

    @property
    def training(self) -> bool:
        """Whether the program carries state that its calls change."""
        return bool(self.graph.updates)

    def save(self, path: str | Path) -> None:
        """Save program, weights and settings in one file, for `intaglio.load`."""
        from intaglio.saved import save

        save(self, Path(path))

    def export_c(
        self,
        directory: str | Path,
        *,
        target: str = "generic",
        name: str | None = None,
        samples: Sequence[Sequence[Any]] | None = None,
        seed: int = 0,
    ) -> Path:
        """Write a folder of C that builds by itself: header, source, weights, build files, self-test.

        Args:
            directory: made if it does not exist.
            target: machine to generate for; `generic` is portable C11.
            name: prefix of every symbol and of the files; default the model's name.
            samples: inputs whose results the self-test must reproduce; default made-up ones (`seed`).
        """
        from intaglio.exported import export

        return export(self, Path(directory), find_target(target), name, samples, seed)
