"""Scalar programs: micrograd's values and networks, compiled to loops that give the same bits."""

from intaglio.scalar import nn
from intaglio.scalar.capture import tracing
from intaglio.scalar.drawing import draw
from intaglio.scalar.program import Program, compile
from intaglio.scalar.samples import lookup, one_hot
from intaglio.scalar.value import Value

__all__ = ["Program", "Value", "compile", "draw", "lookup", "nn", "one_hot", "tracing"]
