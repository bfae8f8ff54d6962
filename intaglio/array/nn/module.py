"""`Module` and `Parameter`: models as trees of named tensors, with PyTorch's names and semantics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from intaglio.array.data import as_array
from intaglio.array.tensor import Tensor, no_grad, note_change, tensor
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, IntaglioError, ShapeError
from intaglio.shared.where import caller


class Parameter(Tensor):
    """A Tensor that a Module owns and an optimiser trains."""

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(tensor(data), requires_grad=requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class LoadResult(NamedTuple):
    """Keys that a non-strict `load_state_dict` did not find, and those it did not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all models: assign Parameters, buffers and Modules as attributes and define `forward`.

    Calling a module runs `forward`; NumPy arrays among the arguments become Tensors.
    """

    training: bool

    def __init__(self) -> None:
        own: dict[str, Any] = {
            "_parameters": {},
            "_buffers": {},
            "_modules": {},
            "_unsaved": set(),
            "training": True,
        }
        self.__dict__.update(own)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tensors: dict[int, Tensor] = {}
        lifted = [_lifted(x, tensors) for x in args]
        named = {name: _lifted(x, tensors) for name, x in kwargs.items()}
        try:
            return self.forward(*lifted, **named)
        except IntaglioError as error:
            error.where = error.where or caller()
            raise

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise ArgumentError(
                f"{type(self).__name__}: {name} is assigned before super().__init__() is called"
            )
        note_change()
        for kind, store in ((Parameter, self._parameters), (Module, self._modules)):
            if isinstance(value, kind):
                self._forget(name)
                store[name] = value
                return
        for store in (self._parameters, self._modules, self._buffers):
            if name in store:
                if value is not None and not (store is self._buffers and isinstance(value, Tensor)):
                    raise ArgumentError(
                        f"{type(self).__name__}.{name} cannot become a {type(value).__name__}",
                        hint="assign what it was, or None; `with no_grad(): x.copy_(y)` changes values",
                    )
                store[name] = value
                return
        self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        for kind in ("_parameters", "_buffers", "_modules"):
            store = self.__dict__.get(kind, {})
            if name in store:
                return store[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if name not in self.__dict__ and not hasattr(self, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        self._forget(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _forget(self, name: str) -> None:
        note_change()
        for store in (self.__dict__, self._parameters, self._buffers, self._modules):
            store.pop(name, None)
        self._unsaved.discard(name)

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Own a Parameter, or None for one that is left out (as `bias=False` does)."""
        self._forget(name)
        self._parameters[name] = value

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Own a Tensor that is not trained; one that is not persistent is left out of `state_dict`."""
        self._forget(name)
        self._buffers[name] = value
        if not persistent:
            self._unsaved.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Own a child under a name that need not be an identifier."""
        if not name or "." in name:
            raise ArgumentError(f"module name {name!r} must not be empty or hold a dot")
        self._forget(name)
        self._modules[name] = module

    # Walking the tree

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below, each once, with dotted names."""
        for path, module, first in self._walk(prefix, set()):
            if first:
                yield path, module

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module, bool]]:
        yield prefix, self, id(self) not in seen
        seen.add(id(self))
        for name, child in self._modules.items():
            if child is not None:
                yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def _named(self, kind: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules() if recurse else (("", self),):
            for name, value in module.__dict__[kind].items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self, recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Every Parameter once, with its dotted name."""
        return self._named("_parameters", recurse)

    def named_buffers(self, recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Every buffer once, with its dotted name."""
        return self._named("_buffers", recurse)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((name, child) for name, child in self._modules.items() if child is not None)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (value for _, value in self.named_parameters(recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (value for _, value in self.named_buffers(recurse))

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def get_submodule(self, path: str) -> Module:
        """The module at a dotted name; `""` is this one. Raises AttributeError."""
        module: Any = self
        for name in path.split(".") if path else []:
            module = getattr(module, name)
        if not isinstance(module, Module):
            raise AttributeError(f"{path} of {type(self).__name__} is not a module")
        return module

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call a function with every module, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # State

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for path, module, _ in self._walk("", set()):
            saved = {k: v for k, v in module._buffers.items() if k not in module._unsaved}
            for name, value in (module._parameters | saved).items():
                if value is not None:
                    yield f"{path}.{name}" if path else name, value

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, detached; they share the module's memory."""
        return {name: value.data for name, value in self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy values into parameters and buffers by name.

        Args:
            state_dict: arrays, Tensors or torch tensors by dotted name, as PyTorch's `state_dict` has them.
            strict: whether names that are missing or unexpected are an error.

        Raises:
            ArgumentError: with `strict`, names that do not match.
            ShapeError: a value's shape is not its parameter's; nothing is changed then.
        """
        own = dict(self._state())
        result = LoadResult([k for k in own if k not in state_dict], [k for k in state_dict if k not in own])
        if strict and any(result):
            parts = [
                f"{what} {', '.join(keys)}"
                for what, keys in zip(("missing", "unexpected"), result, strict=True)
                if keys
            ]
            raise ArgumentError(
                f"load_state_dict of {type(self).__name__}: keys {'; '.join(parts)}",
                hint="strict=False loads the keys that match",
            )
        arrays = {name: as_array(state_dict[name]) for name in own if name in state_dict}
        wrong = [
            f"{name} is {list(array.shape)} in the state dict but {list(own[name].shape)} in the module"
            for name, array in arrays.items()
            if array.shape != tuple(own[name].shape)
        ]
        if wrong:
            raise ShapeError(f"load_state_dict of {type(self).__name__}: " + "; ".join(wrong))
        with no_grad():
            for name, array in arrays.items():
                own[name].copy_(tensor(array.astype(own[name].dtype.numpy)))
        return result

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below; it changes what dropout and batch norm do."""
        note_change()
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Self:
        """Set inference mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Train the parameters here and below, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, dtype: Any) -> Self:
        """Convert floating-point parameters and buffers to another floating-point type, in place."""
        wanted = dtypes.parse(dtype)
        if not wanted.is_float:
            raise ArgumentError(f"Module.to: {wanted} is not a floating-point type")
        for value in (*self.parameters(), *self.buffers()):
            if value.dtype.is_float:
                value.data = value.numpy().astype(wanted.numpy)
                value.grad = None
        return self

    def float(self) -> Self:
        return self.to(dtypes.f32)

    def double(self) -> Self:
        return self.to(dtypes.f64)

    def half(self) -> Self:
        return self.to(dtypes.f16)

    def bfloat16(self) -> Self:
        return self.to(dtypes.bf16)

    # Text

    def extra_repr(self) -> str:
        """What stands between the parentheses of a module without children."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr().splitlines()
        children = [
            f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._modules.items()
        ]
        if not children and len(extra) <= 1:
            return f"{self._get_name()}({''.join(extra)})"
        return f"{self._get_name()}(\n  " + "\n  ".join([*extra, *children]) + "\n)"


def _lifted(value: Any, tensors: dict[int, Tensor]) -> Any:
    """A Tensor of a NumPy array, the same one for the same array; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return tensors.setdefault(id(value), tensor(value))
