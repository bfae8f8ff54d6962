"""The saved form: one zip file with the program as text, its arrays as safetensors, and its settings.

Nothing in it is executed: the text is parsed, the arrays are plain bytes, and sizes are checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.compile import compile_graph
from intaglio.compiled import Compiled
from intaglio.graph.ir import Graph
from intaglio.graph.spec import verify
from intaglio.graph.text import arrays_of, parse_graph, print_graph
from intaglio.shared.errors import FileFormatError, IntaglioError

FORMAT = 1
PROGRAM, WEIGHTS, SETTINGS = "program.txt", "weights.safetensors", "settings.json"
MAX_TEXT = 1 << 28
_EPOCH = (1980, 1, 1, 0, 0, 0)


def save(compiled: Compiled, path: Path) -> None:
    """Write a compiled program; states are saved as they are now. The file appears in one step."""
    from safetensors.numpy import save as to_bytes

    graph = compiled.graph
    arrays = {name: np.asarray(array, order="C") for name, array in arrays_of(graph).items()}
    if "loaded" in vars(compiled):
        arrays.update({name: np.asarray(array, order="C") for name, array in compiled.states.items()})
    parts = {PROGRAM: print_graph(graph).encode(), WEIGHTS: to_bytes(arrays)}
    settings = {
        "format": FORMAT,
        "threads": compiled.threads,
        **compiled.settings,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
    }
    parts[SETTINGS] = json.dumps(settings, indent=1, sort_keys=True).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    os.replace(temporary, path)


def load(path: str | Path) -> Compiled:
    """Load what `Compiled.save` wrote and compile it for this machine.

    Raises:
        FileFormatError: the file is truncated, tampered with or of another format.
    """
    graph, settings = _read(Path(path))
    return compile_graph(
        graph,
        target=settings["target"],
        opt_level=settings["opt_level"],
        threads=settings["threads"],
        disabled_passes=settings["disabled_passes"],
        keep_phases=settings["keep_phases"],
        accuracy=settings["accuracy"],
        tuning=settings.get("tuning"),
        schedules=settings.get("schedules"),
    )


def load_graph(path: str | Path) -> Graph:
    """Only the graph of a saved program. Raises FileFormatError as `load` does."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[Graph, dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name: _member(archive, name) for name in (PROGRAM, WEIGHTS, SETTINGS)}
        settings = json.loads(parts[SETTINGS])
        if settings.get("format") != FORMAT:
            raise FileFormatError(f"{path}: format {settings.get('format')!r}, this version reads {FORMAT}")
        for name, digest in settings["sha256"].items():
            if hashlib.sha256(parts[name]).hexdigest() != digest:
                raise FileFormatError(
                    f"{path}: {name} was changed after it was saved", hint="save the program again"
                )
        graph = parse_graph(parts[PROGRAM].decode(), from_bytes(parts[WEIGHTS]))
        verify(graph)
        return graph, settings
    except FileFormatError:
        raise
    except FileNotFoundError:
        raise FileFormatError(f"there is no file {path}") from None
    except (
        OSError,
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        SafetensorError,
        EOFError,
        IntaglioError,
        NotImplementedError,
    ) as error:
        raise FileFormatError(
            f"{path} is not a saved program: {error}", hint="it may be truncated; save it again"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if name != WEIGHTS and info.file_size > MAX_TEXT:
        raise FileFormatError(f"{name} claims {info.file_size} bytes")
    return archive.read(info)
