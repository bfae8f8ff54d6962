"""One module per family of ONNX operators; importing it fills the table."""

from intaglio.readers.onnx.handlers import elementwise, linear, movement, reduction, shape

LOADED = (elementwise, linear, movement, reduction, shape)

__all__ = ["LOADED"]
