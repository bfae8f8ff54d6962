"""Neural-network modules; their weights as safetensors files; `functional` and `init` beside them."""

from intaglio.array.nn import *  # noqa: F403
from intaglio.array.nn import __all__ as _modules
from intaglio.array.serialize import load_state, save_state
from intaglio.nn import functional

__all__ = [*_modules, "functional", "load_state", "save_state"]
