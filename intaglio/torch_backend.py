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
from torch._guards import TracingContext
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import GraphModule
from torch.nn.attention import SDPBackend, sdpa_kernel

from intaglio.compile import compile_graph
from intaglio.compiled import Compiled
from intaglio.readers.torch.arrays import array_of, tensor_of
from intaglio.readers.torch.fx import FxProgram, read_fx
from intaglio.shared.errors import ArgumentError

SETTINGS = ("threads", "opt_level", "toolchain", "opt", "accuracy")


def backend(module: GraphModule, example_inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
    """The function `torch.compile` calls; `options` are those of `intaglio.compile_graph`.

    Raises:
        ArgumentError: an option that does not exist.
        UnsupportedError: an operator, type or feature that is not supported.
    """
    given = {**options.pop("options", {}), **options}
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise ArgumentError(
            f"torch.compile(backend='intaglio') has no option {', '.join(unknown)}",
            hint=f"options are {', '.join(SETTINGS)}",
        )
    settings = {"threads": torch.get_num_threads(), **given}

    def forward(graph: GraphModule, inputs: Sequence[Any]) -> Any:
        context = TracingContext.try_get()
        known = context.fw_metadata if context is not None else None
        visible = known.num_forward_returns if known is not None else None
        return make_boxed_func(CompiledFx(graph, inputs, settings, checked=True, visible=visible))

    def backward(graph: GraphModule, inputs: Sequence[Any]) -> Any:
        return make_boxed_func(CompiledFx(graph, inputs, settings, checked=False, visible=0))

    lowered = aot_autograd(
        fw_compiler=forward,
        bw_compiler=backward,
        decompositions=_decompositions(),
        partition_fn=min_cut_rematerialization_partition,
    )
    with sdpa_kernel(SDPBackend.MATH):
        compiled: Callable[..., Any] = lowered(module, example_inputs)
        return compiled


class CompiledFx:
    """An FX graph as C; a program for every set of sizes it is called with. Arguments as for `read_fx`."""

    def __init__(
        self,
        module: GraphModule,
        inputs: Sequence[Any],
        settings: dict[str, Any],
        *,
        checked: bool,
        visible: int | None,
    ) -> None:
        self.module = module
        self.settings = settings
        self.checked, self.visible = checked, visible
        self.programs: dict[tuple[Any, ...], tuple[FxProgram, Compiled | None]] = {}
        if all(isinstance(x, torch.Tensor) and _is_static(x) for x in inputs):
            self._program(inputs)

    def _program(self, arguments: Sequence[Any]) -> tuple[FxProgram, Compiled | None]:
        key = tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in arguments)
        if key not in self.programs:
            with unset_fake_temporarily():  # constants of the module are real tensors
                program = read_fx(self.module, arguments, self.checked, self.visible)
            compiled = compile_graph(program.graph, **self.settings) if program.graph.outputs else None
            self.programs[key] = program, compiled
        return self.programs[key]

    def __call__(self, *arguments: Any) -> list[Any]:
        program, compiled = self._program(arguments)
        outputs: list[Any] = []
        if compiled is not None:
            tensors = [k() if callable(k) else arguments[k] for k in program.taken]
            outputs = compiled.run_arrays([array_of(tensor) for tensor in tensors])
            if program.checks:
                _raise_for(outputs.pop(), program.checks)
        return [_result(kind, what, outputs, arguments) for kind, what in program.results]


@functools.cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's table to the core opset; it takes long to build."""
    table: Any = core_aten_decompositions()
    return dict(table.items())


def _raise_for(found: Any, texts: Sequence[str]) -> None:
    """Raise IndexError for the first check that found something."""
    if found.any():
        raise IndexError(texts[int(found.argmax())])


def _result(kind: str, what: Any, outputs: Sequence[Any], arguments: Sequence[Any]) -> Any:
    if kind == "output":
        return tensor_of(outputs[what])
    if kind == "laid out":
        position, order = what
        dense = tensor_of(outputs[position])
        return torch.empty_permuted(dense.shape, order, dtype=dense.dtype).copy_(dense)
    if kind == "size":
        return int(outputs[what])
    if kind == "number":
        return outputs[what].item()
    if kind == "copy":
        return arguments[what].clone()
    return arguments[what] if kind == "argument" else what


def _is_static(tensor: torch.Tensor) -> bool:
    return all(isinstance(extent, int) for extent in tensor.shape)
