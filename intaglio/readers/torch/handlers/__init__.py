"""One module per family of ATen operators; importing this package fills the table of handlers."""

from importlib import import_module
from pkgutil import iter_modules

LOADED = tuple(import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))

__all__ = ["LOADED"]
