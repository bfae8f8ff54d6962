"""Weights as safetensors files: readable by any safetensors reader, and back from any writer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.array.data import as_array
from intaglio.array.nn.module import Module
from intaglio.shared.cache import atomic_path
from intaglio.shared.dtypes import from_numpy
from intaglio.shared.errors import FileFormatError

Array = np.ndarray[Any, Any]
DIGEST, WRITER = "sha256", {"writer": "intaglio"}


def save_state(state: Module | Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Save a module's `state_dict`, or any dict of tensors by name, as a safetensors file.

    The file appears in one step: a reader sees the old one or the whole new one. Its metadata hold a
    checksum of names, types, shapes and values. Raises DTypeError for elements that are no numbers.
    """
    from safetensors.numpy import save_file

    named = state.state_dict() if isinstance(state, Module) else state
    arrays = {name: np.asarray(as_array(value), order="C") for name, value in named.items()}
    for array in arrays.values():
        from_numpy(array.dtype)
    with atomic_path(Path(path)) as temporary:
        save_file(arrays, temporary, metadata={**WRITER, DIGEST: _digest(arrays)})


def load_state(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a safetensors file by name, for `Module.load_state_dict`.

    Raises:
        FileFormatError: the file is missing, truncated, not safetensors, or not what `save_state` wrote.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileFormatError(f"there is no file {os.fspath(path)}") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{os.fspath(path)} is not a whole safetensors file: {error}",
            hint="it may be truncated; save it again",
        ) from error
    ours = DIGEST in metadata or WRITER.items() <= metadata.items()
    if ours and metadata != {**WRITER, DIGEST: _digest(arrays)}:
        raise FileFormatError(
            f"{os.fspath(path)}: values were changed after they were saved", hint="save the weights again"
        )
    return arrays


def _digest(arrays: Mapping[str, Array]) -> str:
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype.name} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
