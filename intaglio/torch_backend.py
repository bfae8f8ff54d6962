"""`torch.compile(model, backend="intaglio")`: forward and backward as compiled C, through AOTAutograd.

Both halves arrive as FX graphs of ATen operators. Each is compiled at its first call with given sizes;
tensors go in and out without copies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._decomp import core_aten_decompositions
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import GraphModule
from torch.nn.attention import SDPBackend, sdpa_kernel

from intaglio.compile import compile_graph
from intaglio.compiled import Compiled
from intaglio.readers.torch.arrays import array_of, tensor_of
from intaglio.readers.torch.fx import FxProgram, read_fx

SETTINGS = ("threads", "opt_level", "toolchain", "opt", "accuracy")


def backend(module: GraphModule, example_inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
    """The function `torch.compile` calls; `options` are those of `intaglio.compile_graph`.

    Raises:
        UnsupportedError: an operator, type or feature that is not supported.
    """
    settings = {"threads": torch.get_num_threads(), **options.pop("options", {}), **options}
    settings = {name: value for name, value in settings.items() if name in SETTINGS}

    def compiler(graph_module: GraphModule, inputs: Sequence[Any]) -> Any:
        return make_boxed_func(CompiledFx(graph_module, inputs, settings))

    lowered = aot_autograd(
        fw_compiler=compiler,
        bw_compiler=compiler,
        decompositions=_decompositions(),
        partition_fn=min_cut_rematerialization_partition,
    )
    with sdpa_kernel(SDPBackend.MATH):
        compiled: Callable[..., Any] = lowered(module, example_inputs)
        return compiled


class CompiledFx:
    """An FX graph as C; a program for every set of sizes it is called with."""

    def __init__(self, module: GraphModule, inputs: Sequence[Any], settings: dict[str, Any]) -> None:
        self.module = module
        self.settings = settings
        self.programs: dict[tuple[Any, ...], tuple[FxProgram, Compiled | None]] = {}
        if all(isinstance(x, torch.Tensor) and _is_static(x) for x in inputs):
            self._program(inputs)

    def _program(self, arguments: Sequence[Any]) -> tuple[FxProgram, Compiled | None]:
        key = tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in arguments)
        if key not in self.programs:
            with unset_fake_temporarily():  # constants of the module are real tensors
                program = read_fx(self.module, arguments)
            compiled = compile_graph(program.graph, **self.settings) if program.graph.outputs else None
            self.programs[key] = program, compiled
        return self.programs[key]

    def __call__(self, *arguments: Any) -> list[Any]:
        program, compiled = self._program(arguments)
        outputs: list[Any] = []
        if compiled is not None:
            tensors = [k() if callable(k) else arguments[k] for k in program.taken]
            outputs = compiled.run_arrays([array_of(tensor) for tensor in tensors])
        return [_result(kind, what, outputs, arguments) for kind, what in program.results]


@functools.cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's table to the core opset; it takes long to build."""
    table: Any = core_aten_decompositions()
    return dict(table.items())


def _result(kind: str, what: Any, outputs: Sequence[Any], arguments: Sequence[Any]) -> Any:
    if kind == "output":
        return tensor_of(outputs[what])
    if kind == "size":
        return int(outputs[what])
    return arguments[what] if kind == "argument" else what


def _is_static(tensor: torch.Tensor) -> bool:
    return all(isinstance(extent, int) for extent in tensor.shape)
