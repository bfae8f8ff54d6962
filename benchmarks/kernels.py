"""Single kernels, matrix products and convolutions, against PyTorch's (MKL, oneDNN) on one thread.

python benchmarks/kernels.py [--rounds 10] [--only dot,conv]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from harness import Peer, compare, serve

from intaglio.native.host_memory import aligned_copy

# M, K, N of x @ w ("mk,kn"), x @ w.T ("mk,nk": nn.Linear), x.T @ g ("km,kn": gradient of weights)
DOTS = [
    *(
        ("mk,kn->mn", *sizes)
        for sizes in (
            (128, 784, 128),
            (128, 128, 10),
            (128, 384, 384),
            (128, 384, 1536),
            (128, 1536, 384),
            (1, 1280, 1000),
        )
    ),
    *(("mk,nk->mn", *sizes) for sizes in ((128, 784, 128), (32, 784, 128), (8, 784, 128), (1, 784, 128))),
    *(("km,kn->mn", *sizes) for sizes in ((784, 128, 128), (784, 32, 128), (784, 1, 128))),
]
# n, channels, output channels, size, kernel, stride, padding
CONVS = [
    (32, 1, 16, 28, 3, 1, 1),
    (32, 1, 16, 28, 5, 1, 0),
    (32, 16, 32, 14, 3, 1, 1),
    (32, 16, 32, 12, 5, 1, 0),
    (8, 64, 64, 28, 3, 1, 1),
    (32, 64, 64, 7, 3, 1, 1),
    (32, 16, 32, 14, 3, 2, 1),
    (8, 64, 256, 14, 1, 1, 0),
]
CASES = [
    *(("dot", *c) for c in DOTS),
    *(
        (op, *c)
        for c in CONVS
        for op in ("conv", "conv_dx", "conv_dw")
        if not (op == "conv_dx" and c[1] == 1)
    ),
]


def problem(case: tuple[Any, ...]) -> tuple[list[np.ndarray], dict[str, Any], int]:
    """Operands, attributes and floating-point operations of a case."""
    op, *sizes = case
    rng = np.random.default_rng(0)
    if op == "dot":
        spec, m, k, n = sizes
        extents = {"m": m, "k": k, "n": n}
        left, right = spec.split("->")[0].split(",")
        shapes = [[extents[a] for a in axes] for axes in (left, right)]
        attrs, flops = {"spec": spec}, 2 * m * k * n
    else:
        batch, ins, outs, size, kernel, stride, padding = sizes
        out = (size + 2 * padding - kernel) // stride + 1
        x, w, g = (batch, ins, size, size), (outs, ins, kernel, kernel), (batch, outs, out, out)
        shapes = {"conv": [x, w], "conv_dx": [g, w], "conv_dw": [x, g]}[op]
        attrs = {"strides": (stride,) * 2, "dilations": (1, 1), "padding": ((padding,) * 2,) * 2, "groups": 1}
        attrs |= {"conv": {}, "conv_dx": {"size": (size,) * 2}, "conv_dw": {"kernel": (kernel,) * 2}}[op]
        flops = 2 * int(np.prod(g)) * ins * kernel * kernel
    return [aligned_copy(rng.standard_normal(shape).astype(np.float32)) for shape in shapes], attrs, flops


def run_ours(case: tuple[Any, ...]) -> None:
    from intaglio.compile import compile_graph
    from intaglio.graph.ir import Graph
    from intaglio.ops import lookup
    from intaglio.ops.dispatch import type_of

    arrays, attrs, _ = problem(case)
    graph = Graph("kernel")
    values = [graph.input(type_of(a), name) for a, name in zip(arrays, "ab", strict=True)]
    graph.set_outputs([lookup(case[0])(*values, **attrs)])
    compiled = compile_graph(graph, threads=1)
    serve(lambda: compiled(*arrays))


def run_torch(case: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    arrays, attrs, _ = problem(case)
    a, b = map(torch.from_numpy, arrays)
    if case[0] == "dot":
        left, right = attrs["spec"].split("->")[0].split(",")
        a, b = (a.T if left == "km" else a), (b.T if right == "nk" else b)
        serve(lambda: torch.mm(a, b))
        return
    stride, padding = attrs["strides"], [low for low, _ in attrs["padding"]]
    if case[0] == "conv":
        serve(lambda: torch.nn.functional.conv2d(a, b, stride=stride, padding=padding))
        return
    if case[0] == "conv_dx":
        size = (a.shape[0], b.shape[1], *attrs["size"])
        serve(lambda: torch.nn.grad.conv2d_input(size, b, a, stride=stride, padding=padding))
        return
    size = (b.shape[1], a.shape[1], *attrs["kernel"])
    serve(lambda: torch.nn.grad.conv2d_weight(a, size, b, stride=stride, padding=padding))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="dot,conv,conv_dx,conv_dw")
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "NUMBER"), help="serve one case, for the harness")
    options = parser.parse_args()
    if options.peer:
        name, number = options.peer
        {"intaglio": run_ours, "torch": run_torch}[name](CASES[int(number)])
        return
    print("| kernel | ours us | GFLOP/s | torch us | GFLOP/s | torch / ours |\n|---|--:|--:|--:|--:|--:|")
    for number, case in enumerate(CASES):
        if case[0] not in options.only.split(","):
            continue
        command = [sys.executable, str(Path(__file__)), "--peer"]
        peers = [Peer(name, [*command, name, str(number)], 1) for name in ("intaglio", "torch")]
        compare(peers, options.rounds)
        print(row(case, peers), flush=True)


def row(case: tuple[Any, ...], peers: list[Peer]) -> str:
    """A line of the table: medians, and the median of the ratios of each round."""
    if any(not peer.seconds for peer in peers):
        return f"| {case} | {'; '.join(peer.failure for peer in peers if peer.failure)} |"
    flops = problem(case)[2]
    cells = [
        f"{statistics.median(p.seconds) * 1e6:.1f} | {flops / statistics.median(p.seconds) / 1e9:.0f}"
        for p in peers
    ]
    ratio = statistics.median(b / a for a, b in zip(*(p.seconds for p in peers), strict=True))
    return f"| {' '.join(map(str, case))} | {' | '.join(cells)} | {ratio:.2f} |"


if __name__ == "__main__":
    main()
