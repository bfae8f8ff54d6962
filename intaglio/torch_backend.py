"""`torch.compile(model, backend="intaglio")`: forward and backward as compiled C, through AOTAutograd.

Both halves arrive as FX graphs of ATen operators. Each is compiled at its first call with given sizes;
tensors go in and out without copies. Parameters are inputs, or constants where `freeze` is given and no
derivatives are taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
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
from intaglio.readers.torch.frozen import FrozenPrograms, Run, static_inputs
from intaglio.readers.torch.fx import FxProgram, has_bounded_sizes, read_fx
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from intaglio.shared.settings import debug

SETTINGS = ("threads", "opt_level", "toolchain", "opt", "accuracy")


def backend(module: GraphModule, example_inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
    """The function `torch.compile` calls; `options` are those of `intaglio.compile_graph`, and `freeze`:
    parameters and buffers are constants where no derivatives are taken, as long as they do not change.

    Raises:
        ArgumentError: an option that does not exist.
        UnsupportedError: an operator, type or feature that is not supported.
    """
    given = {**options.pop("options", {}), **options}
    freeze = given.pop("freeze", False)
    if not isinstance(freeze, bool):
        raise ArgumentError(
            f"torch.compile(backend='intaglio'): freeze is {freeze!r}, expected True or False"
        )
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise ArgumentError(
            f"torch.compile(backend='intaglio') has no option {', '.join(unknown)}",
            hint=f"options are freeze, {', '.join(SETTINGS)}",
        )
    settings = {"threads": torch.get_num_threads(), **given}

    def forward(graph: GraphModule, inputs: Sequence[Any], **options: Any) -> Any:
        known = _metadata()
        visible = known.num_forward_returns if known is not None else None
        return make_boxed_func(CompiledFx(graph, inputs, settings, checked=True, visible=visible, **options))

    def inference(graph: GraphModule, inputs: Sequence[Any]) -> Any:
        static = static_inputs(_metadata()) if freeze else ()
        return forward(graph, inputs, static=static, symbolic=True)

    def backward(graph: GraphModule, inputs: Sequence[Any]) -> Any:
        return make_boxed_func(CompiledFx(graph, inputs, settings, checked=False, visible=0))

    trains = _may_train(module, example_inputs)
    lowered = aot_autograd(
        fw_compiler=forward,
        bw_compiler=backward,
        inference_compiler=inference,
        decompositions=_decompositions(trains),
        partition_fn=min_cut_rematerialization_partition,
    )
    with sdpa_kernel(SDPBackend.MATH) if trains else nullcontext():
        compiled: Callable[..., Any] = lowered(module, example_inputs)
        return compiled


def _may_train(module: GraphModule, inputs: Sequence[Any]) -> bool:
    """Whether derivatives may be taken: attention is in parts then, which have them."""
    switched = any(node.target is torch._C._set_grad_enabled for node in module.graph.nodes)
    needed = any(isinstance(value, torch.Tensor) and value.requires_grad for value in inputs)
    return switched or (torch.is_grad_enabled() and needed)


class CompiledFx:
    """An FX graph as C. Arguments as for `read_fx`.

    There is a program for every set of sizes it is called with, or one where `symbolic` ones have bounds.
    `static` are the inputs that may be constants as long as they do not change.
    """

    def __init__(
        self,
        module: GraphModule,
        inputs: Sequence[Any],
        settings: dict[str, Any],
        *,
        checked: bool,
        visible: int | None,
        static: Sequence[int] = (),
        symbolic: bool = False,
    ) -> None:
        self.module = module
        self.settings = settings
        self.checked, self.visible, self.static = checked, visible, static
        self.varying = [k for k, x in enumerate(inputs) if not _is_static(x)]
        self.numbers = [k for k in self.varying if not isinstance(inputs[k], (torch.Tensor, torch.SymInt))]
        self.symbolic = symbolic and has_bounded_sizes(inputs)
        self.programs: dict[tuple[Any, ...], Run] = {}
        self.frozen: dict[tuple[Any, ...], FrozenPrograms] = {}
        if not self.varying and not static:
            self._program(inputs)

    def __call__(self, *arguments: Any) -> list[Any]:
        if not self.static:
            return self._program(arguments)(arguments)
        key = self._key(arguments)
        if key not in self.frozen:
            self.frozen[key] = FrozenPrograms(
                self.static, self._compiled, lambda arguments: self._program(arguments)(arguments)
            )
        return self.frozen[key](arguments)

    def _key(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The sizes and numbers that the caller may choose and that are fixed in a program."""
        if not self.varying:
            return ()
        chosen = [arguments[k] for k in (self.numbers if self.symbolic else self.varying)]
        return tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in chosen)

    def _program(self, arguments: Sequence[Any]) -> Run:
        found = self.programs.get(self._key(arguments))
        if found is None:
            found = self._compiled(arguments)
            self.programs[self._key(arguments)] = found
        return found

    def _compiled(self, arguments: Sequence[Any], constants: Sequence[int] = ()) -> Run:
        """A program for arguments of these sizes, or of all, in which some of them are constants."""
        if self.symbolic:
            try:
                return self._built(arguments, constants)
            except (UnsupportedError, ShapeError, DTypeError) as error:
                debug(1, f"torch.compile: a program for every size, because symbols do not do: {error}")
                self.symbolic = False
        return self._built(arguments, constants)

    def _built(self, arguments: Sequence[Any], constants: Sequence[int]) -> Run:
        with unset_fake_temporarily():  # constants of the module are real tensors
            program = read_fx(
                self.module,
                arguments,
                checked=self.checked,
                visible=self.visible,
                constants=constants,
                symbolic=self.symbolic,
            )
            compiled = compile_graph(program.graph, **self.settings) if program.graph.outputs else None
        if compiled is not None:
            _own_constants(compiled, [arguments[k] for k in constants])
        return FxRun(program, compiled)


class FxRun:
    """A call of an FX graph's program: arguments as PyTorch gives them, results as it expects them."""

    def __init__(self, program: FxProgram, compiled: Compiled | None) -> None:
        self.program, self.compiled = program, compiled

    def __call__(self, arguments: Sequence[Any]) -> list[Any]:
        program = self.program
        outputs: list[Any] = []
        if self.compiled is not None:
            tensors = [k() if callable(k) else arguments[k] for k in program.taken]
            outputs = self.compiled.run_arrays([array_of(tensor) for tensor in tensors])
            if program.checks:
                _raise_for(outputs.pop(), program.checks)
        return [_result(kind, what, outputs, arguments) for kind, what in program.results]


def _own_constants(compiled: Compiled, tensors: Sequence[torch.Tensor]) -> None:
    """Constants that were taken over as they are become copies: a write to them must not be half seen."""
    arrays = [array_of(tensor) for tensor in tensors]
    for constant in compiled.program.constants:
        data = constant.data
        if data is not None and any(np.may_share_memory(data, array) for array in arrays):
            constant.data = data.copy()


def _metadata() -> Any:
    """What AOTAutograd knows about the forward graph that is being compiled."""
    context = TracingContext.try_get()
    return context.fw_metadata if context is not None else None


@functools.cache
def _decompositions(trains: bool) -> dict[Any, Callable[..., Any]]:
    """PyTorch's table to the core opset, with attention whole at inference; it takes long to build."""
    table: Any = core_aten_decompositions()
    whole = () if trains else (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,)
    return {operator: function for operator, function in table.items() if operator not in whole}


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


def _is_static(value: Any) -> bool:
    """Whether an input is a tensor of one size."""
    return isinstance(value, torch.Tensor) and all(isinstance(extent, int) for extent in value.shape)
