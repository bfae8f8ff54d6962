"""The PyTorch reader: modules, exported programs and FX graphs become graphs.

Needs the package `torch`, at compile time only.
"""

from intaglio.readers.torch.exported import load

__all__ = ["load"]
