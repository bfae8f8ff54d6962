"""What PyTorch's autograd does and an exported program does not say.

Exporting keeps what is computed, not how derivatives flow: `detach` and regions without gradients become
nothing, functions with a derivative of their own become their forward half. A training step that is
differentiated here has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

from intaglio.shared.errors import ArgumentError, UnsupportedError

_library: Any = torch.library
_LIBRARY = _library.Library("intaglio", "DEF")
_LIBRARY.define("stop_gradient(Tensor x) -> Tensor")
_LIBRARY.impl("stop_gradient", torch.clone, "CompositeExplicitAutograd")


def keep_stopped_gradients(program: ExportedProgram) -> None:
    """Mark, in place, where gradients stop, by an operator that decompositions leave alone."""
    stop = torch.ops.intaglio.stop_gradient.default
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in list(module.graph.nodes):
            if node.target is torch.ops.aten.detach.default:
                node.target = stop
            elif node.target is torch.ops.higher_order.wrap_with_set_grad_enabled and not node.args[0]:
                with module.graph.inserting_before(node):
                    node.args = tuple(_stopped(module.graph, stop, arg) for arg in node.args)
        module.recompile()


def _stopped(graph: torch.fx.Graph, stop: Any, operand: Any) -> Any:
    value = operand.meta.get("val") if isinstance(operand, torch.fx.Node) else None
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return operand
    made = graph.call_function(stop, (operand,))
    made.meta = dict(operand.meta)
    return made


def parameters_with_gradients(
    module: torch.nn.Module, loss: Callable[..., Any], batch: Sequence[Any]
) -> set[int]:
    """The ids of the parameters that get a gradient, by one forward pass that leaves the module as it is.

    Raises:
        UnsupportedError: a derivative that Python code defines or changes.
        ArgumentError: the loss is no scalar.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        result = torch.func.functional_call(module, buffers, tuple(batch[:-1]))
        value = loss(result, batch[-1])
    if not isinstance(value, torch.Tensor) or value.ndim:
        shown = f"of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise ArgumentError(f"the loss is {shown}, not one scalar", hint="return one tensor, such as a mean")
    found: set[int] = set()
    seen: set[Any] = {None}
    waiting: list[Any] = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            name = type(node).__name__.removesuffix("Backward")
            raise UnsupportedError(
                f"torch.autograd.Function {name} has a derivative of its own, which is not supported",
                hint="write it in PyTorch's operators, or train with torch.compile(backend='intaglio')",
            )
        if hasattr(node, "variable"):
            _check_hooks(node.variable)
            found.add(id(node.variable))
        waiting.extend(after for after, _ in node.next_functions)
    return found


def _check_hooks(parameter: torch.Tensor) -> None:
    if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
        raise UnsupportedError(
            f"a parameter of shape {list(parameter.shape)} has hooks on its gradient",
            hint="remove them, or train with torch.compile(backend='intaglio')",
        )
