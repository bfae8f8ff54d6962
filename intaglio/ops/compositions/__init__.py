"""Functions made of primitive operators, with PyTorch's names, arguments and conventions.

They work on arrays, eager tensors and graph values alike, since the primitives do.
"""
