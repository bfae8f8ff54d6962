"""The functions behind the modules, with PyTorch's names."""

from intaglio.array.functional import *  # noqa: F403
from intaglio.array.functional import __all__ as __all__
