"""ONNX models become graphs."""

from intaglio.readers.onnx.importer import load

__all__ = ["load"]
