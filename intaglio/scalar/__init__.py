"""Scalar programs: micrograd's values and networks, compiled to loops that give the same bits."""

from intaglio.scalar import nn
from intaglio.scalar.capture import tracing
from intaglio.scalar.program import Program, compile
from intaglio.scalar.value import Value

__all__ = ["Program", "Value", "compile", "nn", "tracing"]
