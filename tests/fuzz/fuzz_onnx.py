"""Fuzzes the ONNX importer: mutated real files must be refused clearly, or run the same in every way.

    python tests/fuzz/fuzz_onnx.py --inputs 100000 --workers 2 --out findings

The last long runs tried 321,248 inputs (seeds from 50,000,000 and 70,000,000, one worker): 24 findings of 15
kinds. Open of them: one process was killed, by want of memory or because it was silent for `DEAD` seconds.

Inputs run in processes of limited memory; one that hangs or dies is a finding like any other. Findings are
written as files, which go into `corpus/` when what they show is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing as mp
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

MEMORY = 6 << 30
SLOW = 10.0
DEAD = 120.0
DEPTHS = ((0, 0.65), (1, 0.15), (2, 0.14), (3, 0.057), (4, 0.003))
"""How deep inputs are examined, and how many of them."""


class Hang(BaseException):
    """An input took more than `SLOW` seconds of the processor."""


def make_input(seed: int, seeds: list[bytes]) -> tuple[bytes, int]:
    """The input of a number, and how deep to look at it."""
    from mutate import mutate

    rng = random.Random(seed)
    data = mutate(rng, rng.choice(seeds), rng.choice(seeds))
    depth = rng.choices([d for d, _ in DEPTHS], [p for _, p in DEPTHS])[0]
    return data, depth


def all_seeds(quick: bool = False) -> list[bytes]:
    """The files to start from; networks weigh as much as the many small tests."""
    import seeds

    nets = seeds.networks()
    if quick:
        return nets
    tests = seeds.node_tests()
    return tests + nets * (len(tests) // len(nets)) + seeds.light_models() * 2


def _interrupt(*_: Any) -> None:
    raise Hang


def attempt(data: bytes, seed: int, depth: int) -> tuple[str, str]:
    """Examine an input: what it was, and of a finding how it came about."""
    from oracle import examine

    signal.setitimer(signal.ITIMER_PROF, SLOW)
    try:
        outcome = examine(data, seed, depth)
        return outcome.kind, outcome.cause
    except (Hang, Exception) as error:
        return "FINDING", _place(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _place(error: BaseException) -> str:
    """The error and the innermost lines of the package that it went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "intaglio" in f.filename]
    lines = [f"  {Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[-4:]]
    return "\n".join([f"{type(error).__name__}: {str(error)[:300]}", *lines])


def work(pipe: Connection, numbers: range, quick: bool, scratch: Path) -> None:
    """Examine the inputs of some numbers; the current one lies in `scratch`, in case it kills the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _interrupt)
    seeds = all_seeds(quick)
    for number in numbers:
        data, depth = make_input(number, seeds)
        scratch.write_bytes(data)
        kind, text = attempt(data, number, depth)
        pipe.send((number, kind, text, data if kind == "FINDING" else b""))
    pipe.send(None)


class Pool:
    """Worker processes, each with a share of the numbers; replaced when they die."""

    def __init__(self, out: Path, quick: bool) -> None:
        self.out, self.quick = out, quick
        self.counts: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.findings: dict[str, int] = {}
        self.silent: set[mp.Process] = set()
        self.running: dict[Connection, tuple[mp.Process, range, int, float]] = {}
        out.mkdir(parents=True, exist_ok=True)

    def start(self, numbers: range) -> None:
        if len(numbers) == 0:
            return
        mine, theirs = mp.Pipe(duplex=False)
        args = (theirs, numbers, self.quick, self.scratch(numbers))
        process = mp.Process(target=work, args=args, daemon=True)
        process.start()
        theirs.close()
        self.running[mine] = (process, numbers, numbers.start - numbers.step, time.monotonic() + 60)

    def scratch(self, numbers: range) -> Path:
        return self.out / f".current{numbers.start % numbers.step}"

    def found(self, number: int, text: str, data: bytes) -> None:
        self.counts["FINDING"] += 1
        key = text[text.find("\n") :] if "\n" in text else text
        if key not in self.findings:
            path = self.out / f"{hashlib.sha256(data).hexdigest()[:12]}.onnx"
            path.write_bytes(data)
            print(f"--- {path} (input {number})\n{text}", flush=True)
        self.findings[key] = self.findings.get(key, 0) + 1

    def run(self) -> None:
        while self.running:
            for pipe in wait(list(self.running), timeout=5):
                self.receive(pipe)  # type: ignore[arg-type]
            for pipe, (process, _, _, seen) in list(self.running.items()):
                if time.monotonic() - seen > DEAD and not pipe.poll():
                    self.silent.add(process)
                    process.kill()

    def report(self, seconds: float) -> None:
        """Print how many inputs there were, and what became of them."""
        print(f"{sum(self.counts.values())} inputs in {seconds:.0f} s: {dict(self.counts)}")
        print(f"{dict(self.causes.most_common(30))}", flush=True)

    def receive(self, pipe: Connection) -> None:
        process, numbers, last, _ = self.running[pipe]
        try:
            message = pipe.recv()
        except EOFError:
            del self.running[pipe]
            process.join()
            number = last + numbers.step
            data = self.scratch(numbers).read_bytes()
            silent = process in self.silent
            how = f"no answer for {DEAD:.0f} s" if silent else f"the process died: {process.exitcode}"
            self.found(number, how, data)
            self.start(range(number + numbers.step, numbers.stop, numbers.step))
            return
        if message is None:
            del self.running[pipe]
            process.join()
            return
        number, kind, text, data = message
        self.running[pipe] = (process, numbers, number, time.monotonic())
        if kind == "FINDING":
            self.found(number, text, data)
        else:
            self.counts[kind] += 1
            self.causes[f"{kind} {text}"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="start from a few networks only")
    parser.add_argument("--out", type=Path, default=Path("findings"))
    given = parser.parse_args()
    pool, started = Pool(given.out, given.quick), time.monotonic()
    for k in range(given.workers):
        pool.start(range(given.seed + k, given.seed + given.inputs, given.workers))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        pool.run()
    finally:
        pool.report(time.monotonic() - started)
    sys.exit(1 if pool.findings else 0)


if __name__ == "__main__":
    main()
