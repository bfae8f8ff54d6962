"""Training over many samples in one call: the bits of a loop over `step`, from any kind of block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scalar_models import MODELS, Model, perceptron

from intaglio import scalar
from intaglio.scalar.program import Program
from intaglio.scalar.rerolled import Rerolled
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError

RATE = 0.05
CLASSES = 5
PIXELS = np.arange(256) / 255


def compiled(model: Model, **options: Any) -> Program:
    options = {"toolchain": "tcc"} | options
    return scalar.compile(tuple(model.outputs), model.inputs, model.parameters, **options)


def bits(numbers: Any) -> list[int]:
    return np.asarray(numbers, np.float64).reshape(-1).view(np.int64).tolist()


def state(program: Program, model: Model) -> list[int]:
    """Numbers and gradients of outputs and parameters, and the inputs, as bits."""
    read = [*model.outputs, *model.parameters]
    numbers = [program.data(v) for v in (*read, *model.inputs)] + [program.grad(v) for v in read]
    return bits(numbers)


def stepped(model: Model, program: Program, rows: Any, rates: Any) -> tuple[list[int], list[int]]:
    results = [
        program.step(row, rate) for row, rate in zip(rows, np.broadcast_to(rates, len(rows)), strict=True)
    ]
    return bits(results), state(program, model)


@pytest.mark.parametrize("name", MODELS)
def test_the_bits_of_a_loop_over_steps(name: str) -> None:
    model = MODELS[name]()
    rows = np.array(model.samples * 3)
    expected = stepped(model, compiled(model, engine="interpreted"), rows, RATE)
    for options in ({"toolchain": "gcc"}, {}, {"engine": "straight"}, {"engine": "interpreted"}):
        program = compiled(model, **options)
        assert (bits(program.train(rows, RATE)), state(program, model)) == expected, options


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any, Any]:
    """Pixels u8, labels u8, and the same samples as doubles."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (23, 20), np.uint8) * random.integers(0, 2, (23, 20), np.uint8)
    labels = random.integers(0, CLASSES, 23).astype(np.uint8)
    return pixels, labels, np.hstack([pixels / 255, np.eye(CLASSES)[labels]])


@pytest.mark.parametrize("toolchain", ["gcc", "tcc"])
def test_pixels_and_labels_are_read_where_they_lie(digits: Any, toolchain: str) -> None:
    pixels, labels, rows = digits
    model = perceptron()
    expected = stepped(model, compiled(model, engine="interpreted"), rows, RATE)
    values = (scalar.lookup(pixels, PIXELS), scalar.one_hot(labels, CLASSES))
    program = compiled(model, toolchain=toolchain)
    assert (bits(program.train(values, RATE)), state(program, model)) == expected
    assert isinstance(program.engine, Rerolled)
    loops = next(iter(program.engine.streams.known.values())).library.source
    assert "update_w1_compute_z1" in loops, "the update and the next sample's first sums are one loop"


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_types_of_blocks(digits: Any, dtype: str) -> None:
    pixels, labels, _ = digits
    model = perceptron()
    left = (pixels // 64 % 2).astype(dtype)
    right = np.eye(CLASSES)[labels]
    expected = stepped(model, compiled(model), np.hstack([left.astype(float), right]), RATE)
    program = compiled(model)
    assert (bits(program.train((left, right), RATE)), state(program, model)) == expected


def test_blocks_may_lie_anyhow(digits: Any) -> None:
    """Columns out of order, unused inputs, images of two axes, and lists."""
    pixels, labels, rows = digits
    model = perceptron()
    order = np.random.default_rng(2).permutation(len(model.inputs))
    shuffled = Model(
        model.outputs, [*(model.inputs[i] for i in order), scalar.Value(1.0)], model.parameters, []
    )
    expected = stepped(model, compiled(model), rows, RATE)
    mixed = np.hstack([rows[:, order], rows[:, :1]])
    for values in (mixed, np.asfortranarray(mixed), mixed.tolist(), mixed[:, :, None]):
        program = compiled(shuffled)
        assert (bits(program.train(values, RATE)), state(program, model)) == expected
    program = compiled(model)
    images = scalar.lookup(pixels.reshape(-1, 4, 5)[::-1][::-1], PIXELS)
    program.train((images, scalar.one_hot(labels.astype(np.int64), CLASSES)), RATE)
    assert state(program, model) == expected[1]


def test_rates_and_progress(digits: Any) -> None:
    *_, rows = digits
    model = perceptron()
    rates = np.linspace(0.1, 0.01, len(rows))
    expected = stepped(model, compiled(model), rows, rates)
    for given in (rates, rates.tolist(), np.repeat(rates, 2)[::2]):
        program = compiled(model)
        seen: list[tuple[int, int]] = []
        found = program.train(rows, given, progress=lambda done, total: seen.append((done, total)))
        assert (bits(found), state(program, model)) == expected
        assert seen[-1] == (len(rows), len(rows))
    assert compiled(model).train(rows[:0], RATE).shape == (0, len(model.outputs))


def test_a_sample_that_raises_is_the_last_one() -> None:
    """As in the interpreter: earlier samples have moved the parameters, later ones are not seen."""
    x, p = scalar.Value(1.0), scalar.Value(0.5)
    loss = x.log() * p + (x * p).exp()
    bad = [1.0, 2.0, -1.0, 1.5]
    expected = scalar.compile(loss, [x], [p], engine="interpreted")
    expected.train(np.array(bad[:2]), RATE)
    for engine in ("rerolled", "straight", "interpreted"):
        for batch, before in ((None, expected.data(p)), (4, 0.5)):
            program = scalar.compile(loss, [x], [p], engine=engine, toolchain="tcc")
            with pytest.raises(ValueError, match="math domain"):
                program.train(np.array(bad), RATE, batch=batch)
            assert bits(program.data(p)) == bits(before)


def test_infinities_are_no_errors() -> None:
    """Where Python goes on with an infinity, so does a compiled program."""
    x, p = scalar.Value(1.0), scalar.Value(0.5)
    loss = ((x * p) ** 0.5 + p).tanh()
    rows = [1.0, float("inf"), 2.0, 3.0]
    for batch in (None, 2, 3):
        found = []
        for engine in ("rerolled", "straight", "interpreted"):
            program = scalar.compile(loss, [x], [p], engine=engine, toolchain="tcc")
            results = program.train(np.array(rows), RATE, batch=batch)
            numbers = [*results, program.data(p), program.grad(p)]
            found.append(["NaN" if n != n else float(n).hex() for n in numbers])
        assert found[0] == found[1] == found[2]


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    (lambda p, t: np.zeros((3, 24)), RATE, ShapeError, "25 inputs but a sample has 24 values"),
    (lambda p, t: (p, t[:5]), RATE, ShapeError, "blocks of samples have 23, 5 rows"),
    (lambda p, t: (p, scalar.one_hot(t, 4)), RATE, ArgumentError, "codes are 0 to 4 but the table has 4"),
    (lambda p, t: (p, scalar.one_hot(t / 2, 5)), RATE, DTypeError, "codes are float64 but must be integers"),
    (lambda p, t: (p, scalar.lookup(t, np.zeros((2, 2, 2)))), RATE, ShapeError, r"the table is \[2, 2, 2\]"),
    (lambda p, t: [["a"] * 25], RATE, DTypeError, "inputs must be numbers"),
    (lambda p, t: 1.0, RATE, ShapeError, "must be an array with a row for each sample"),
    (lambda p, t: (p, scalar.one_hot(t, 5)), [0.1, 0.2], ShapeError, r"lr is \[2\] but there are 23 updates"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input(digits: Any, case: int) -> None:
    pixels, labels, _ = digits
    make, rate, error, text = BAD[case]
    with pytest.raises(error, match=text):
        compiled(perceptron(), engine="interpreted").train(make(pixels, labels), rate)


def test_an_empty_batch_is_refused(digits: Any) -> None:
    with pytest.raises(ArgumentError, match="batch is 0 but must be at least 1"):
        compiled(perceptron(), engine="interpreted").train(digits[2], RATE, batch=0)
