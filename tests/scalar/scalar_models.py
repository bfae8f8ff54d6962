"""Scalar graphs of many kinds, each with its inputs, parameters and some samples."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from intaglio.scalar import Value, nn, tracing


@dataclass
class Model:
    """A graph: outputs (the first is the loss), inputs, parameters, and rows of input values."""

    outputs: list[Any]
    inputs: list[Any]
    parameters: list[Any]
    samples: list[list[float]]


def values(count: int, seed: int) -> list[Value]:
    rng = random.Random(seed)
    return [Value(rng.uniform(-1, 1)) for _ in range(count)]


def samples(count: int, width: int, seed: int = 7) -> list[list[float]]:
    rng = random.Random(seed)
    return [[rng.uniform(-1, 1) for _ in range(width)] for _ in range(count)]


def softmax_nll(logits: list[Any], one_hot: list[Any]) -> Any:
    top = logits[0]
    for logit in logits[1:]:
        top = top.max(logit)
    exponentials = [(logit - top).exp() for logit in logits]
    total = sum(exponentials)
    return -sum(t * (e / total).log() for t, e in zip(one_hot, exponentials, strict=True))


def one_hot_samples(count: int, width: int, classes: int, seed: int = 7) -> list[list[float]]:
    rng = random.Random(seed)
    made = []
    for row in samples(count, width, seed):
        label = rng.randrange(classes)
        made.append(row + [1.0 if c == label else 0.0 for c in range(classes)])
    return made


def xor() -> Model:
    random.seed(1)
    net = nn.MLP(2, [4, 1])
    inputs, targets = values(8, 1), values(4, 2)
    losses = [(net(inputs[2 * i : 2 * i + 2]) - targets[i]) ** 2 for i in range(4)]
    return Model([sum(losses)], [*inputs, *targets], net.parameters(),
                 [[0, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0], *samples(3, 12)])  # fmt: skip


def perceptron(sizes: tuple[int, ...] = (20, 7, 5)) -> Model:
    random.seed(2)
    net = nn.MLP(sizes[0], list(sizes[1:]))
    x, t = values(sizes[0], 3), values(sizes[-1], 4)
    with tracing():
        logits = net(x)
        loss = softmax_nll(logits, t)
    return Model([loss, *logits], [*x, *t], net.parameters(), one_hot_samples(4, sizes[0], sizes[-1]))


def stack(layers: int = 9, width: int = 6) -> Model:
    """Equal layers one after the other."""
    random.seed(3)
    net = nn.MLP(width, [width] * layers + [3])
    for p in net.parameters():
        p.data *= 0.7
    x, t = values(width, 5), values(3, 6)
    return Model([softmax_nll(net(x), t)], [*x, *t], net.parameters(), one_hot_samples(3, width, 3))


def moons(batch: int = 10) -> Model:
    """micrograd's demo: max-margin loss over a batch, accuracy left out, and regularisation."""
    random.seed(4)
    net = nn.MLP(2, [8, 8, 1])
    x, y = values(2 * batch, 7), values(batch, 8)
    scores = [net(x[2 * i : 2 * i + 2]) for i in range(batch)]
    losses = [(1 + -yi * score).relu() for yi, score in zip(y, scores, strict=True)]
    data_loss = sum(losses) * (1.0 / len(losses))
    reg_loss = 1e-4 * sum(p * p for p in net.parameters())
    return Model([data_loss + reg_loss], [*x, *y], net.parameters(), samples(3, 3 * batch))


def convolution(padded: bool = False, size: int = 8, channels: int = 3) -> Model:
    """A 3 x 3 convolution with shared weights, mean pooling and a dense layer."""
    image = values(size * size, 9)
    kernels = [values(9, 10 + c) for c in range(channels)]
    biases = values(channels, 20)
    reach = range(-1, 2) if padded else range(3)
    places = range(size) if padded else range(size - 2)
    maps = []
    for kernel, bias in zip(kernels, biases, strict=True):
        for y in places:
            for x in places:
                total = bias
                for i, dy in enumerate(reach):
                    for j, dx in enumerate(reach):
                        if 0 <= y + dy < size and 0 <= x + dx < size:
                            total = total + kernel[3 * i + j] * image[(y + dy) * size + x + dx]
                maps.append(total.relu())
    side = len(places)
    pooled = []
    for c in range(channels):
        for y in range(0, side, 2):
            for x in range(0, side, 2):
                window = [maps[(c * side + y + i) * side + x + j] for i in range(2) for j in range(2)]
                pooled.append(sum(window) * 0.25)
    dense = nn.Layer(len(pooled), 4, nonlin=False)
    random.seed(5)
    for p in dense.parameters():
        p.data = random.uniform(-0.3, 0.3)
    t = values(4, 30)
    loss = softmax_nll(dense(pooled), t)
    parameters = [*(p for kernel in kernels for p in kernel), *biases, *dense.parameters()]
    return Model([loss], [*image, *t], parameters, one_hot_samples(3, size * size, 4))


def recurrent(steps: int = 10, hidden: int = 8, width: int = 3) -> Model:
    """A network that reads a sequence, with tanh."""
    w, u = [values(width, 40 + j) for j in range(hidden)], [values(hidden, 60 + j) for j in range(hidden)]
    b, out = values(hidden, 80), values(hidden, 81)
    x, target = values(steps * width, 82), values(1, 83)
    state: list[Any] = [Value(0.0) for _ in range(hidden)]
    for t in range(steps):
        state = [
            (sum(wi * xi for wi, xi in zip(w[j], x[t * width : (t + 1) * width], strict=True))
             + sum(ui * hi for ui, hi in zip(u[j], state, strict=True)) + b[j]).tanh()
            for j in range(hidden)
        ]  # fmt: skip
    error = sum(o * h for o, h in zip(out, state, strict=True)) - target[0]
    parameters = [*(p for row in (*w, *u) for p in row), *b, *out]
    return Model([error * error], [*x, *target], parameters, samples(3, steps * width + 1))


def two_heads() -> Model:
    """Ragged fan-in, shared values, powers, and outputs besides the loss."""
    x, p = values(6, 90), values(21, 91)
    hidden = [
        sum((w * xi for w, xi in zip(p[i * 3 :], x[: i + 1], strict=False)), p[i]).relu() for i in range(6)
    ]
    first = sum(h * h for h in hidden) + x[0] ** 2
    second = (sum(hidden) * 0.5 + 2.5) ** -1 + (x[1] * x[1] + 1.0) ** 0.5
    loss = first * second + (first + first) * 0.1
    return Model([loss, first, second], x, p, samples(4, 6))


def maxima(width: int = 30) -> Model:
    x, p = values(width, 92), values(width, 93)
    products = [a * b for a, b in zip(x, p, strict=True)]
    top = products[0]
    for product in products[1:]:
        top = top.max(product)
    return Model([top * top + sum(products)], x, p, samples(4, width))


MODELS: dict[str, Callable[[], Model]] = {
    "xor": xor,
    "perceptron": perceptron,
    "wide": lambda: perceptron((30, 19, 13, 4)),
    "deep": stack,
    "moons": moons,
    "convolution": convolution,
    "padded convolution": lambda: convolution(padded=True),
    "recurrent": recurrent,
    "two heads": two_heads,
    "maxima": maxima,
}


def random_graph(seed: int, size: int = 60) -> Model:
    """A random graph with sharing, from few or many leaves, of all operators."""
    rng = random.Random(seed)
    x, p = values(rng.randint(1, 5), seed), values(rng.randint(1, 6), seed + 1)
    pool: list[Any] = [*x, *p, Value(rng.choice([2, -1, 0.5, 0]))]
    for _ in range(rng.randint(3, size)):
        a, b = rng.choice(pool), rng.choice(pool[-8:])
        kind = rng.randrange(12)
        if kind < 3:
            new = a + b
        elif kind < 6:
            new = a * b
        elif kind == 6:
            new = a - b
        elif kind == 7:
            new = rng.choice([a.relu, a.tanh])()
        elif kind == 8:
            new = a.max(b)
        elif kind == 9:
            new = (a * 0.1).exp() if abs(a.data) < 1e3 else a.relu()
        elif kind == 10:
            new = (a * a + 1.5).log() if abs(a.data) < 1e100 else a.tanh()
        else:
            new = rng.choice(
                [lambda a: (a.tanh() + 1.5) ** rng.choice([2, -1, 0.5, 3]), lambda a: a / 3, sum_of(pool)]
            )(a)
        if abs(new.data) > 1e6:
            new = new.tanh()
        pool.append(new)
    outputs = [pool[-1], *rng.sample(pool, min(2, len(pool)))]
    return Model(list(dict.fromkeys(outputs)), x, p, [[v.data for v in x], *samples(2, len(x), seed)])


def sum_of(pool: list[Any]) -> Callable[[Any], Any]:
    return lambda a: sum(pool[-7:], a)


def together(models: list[Model]) -> Model:
    """One graph of several: the loss is the sum of theirs, squashed."""
    loss = sum(model.outputs[0].tanh() for model in models)
    inputs = [v for model in models for v in model.inputs]
    parameters = [v for model in models for v in model.parameters]
    outputs = [loss, *dict.fromkeys(v for model in models for v in model.outputs)]
    rows = [[v for model in models for v in model.samples[i]] for i in range(3)]
    return Model(outputs, inputs, parameters, rows)
