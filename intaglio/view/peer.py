"""One runtime in a process of its own, for `race`: it loads a model, writes its results, and is timed.

python -m intaglio.view.peer RUNTIME MODEL INPUTS.npz RESULTS.npz THREADS [SETTINGS as JSON]
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.shared.errors import ArgumentError, IntaglioError
from intaglio.view.race import serve

Array = np.ndarray[Any, Any]
Work = Callable[[], Any]


def intaglio(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    from intaglio.compile import compile_graph
    from intaglio.loading import load_model

    compiled = compile_graph(load_model(model), threads=threads, **settings)
    return lambda: compiled(*arrays)


def onnxruntime(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {one.name: array for one, array in zip(session.get_inputs(), arrays, strict=True)}
    return lambda: session.run(None, feeds)


def openvino(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    runtime = importlib.import_module("openvino")
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    core = runtime.Core()
    read = core.read_model(model)
    read.reshape({one: list(array.shape) for one, array in zip(read.inputs, arrays, strict=True)})
    compiled = core.compile_model(read, "CPU", options)
    request = compiled.create_infer_request()
    for k, array in enumerate(arrays):
        request.set_input_tensor(k, runtime.Tensor(array, shared_memory=True))

    def run() -> list[Array]:
        request.infer()
        return [request.get_output_tensor(k).data for k in range(len(compiled.outputs))]

    return run


def mnn(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    runtime = importlib.import_module("MNN")
    onnx = importlib.import_module("onnx")
    tools = importlib.import_module("_tools")  # MNN's own, at the top level
    declared = onnx.load(model, load_external_data=False).graph
    held = {one.name for one in declared.initializer}
    names = [one.name for one in declared.input if one.name not in held]
    outputs = [one.name for one in declared.output]
    with tempfile.TemporaryDirectory() as folder:
        made = str(Path(folder) / "model.mnn")
        tools.mnnconvert(["", "-f", "ONNX", "--modelFile", model, "--MNNModel", made, "--bizCode", "x"])
        config = {"precision": "high", "backend": "CPU", "numThread": threads}
        manager = runtime.nn.create_runtime_manager((config,))
        loaded = runtime.nn.load_module_from_file(made, names, outputs, runtime_manager=manager)
    formats = runtime.expr.NCHW
    given = [runtime.expr.const(a, list(a.shape), formats, _mnn_type(runtime, a)) for a in arrays]
    return lambda: [np.array(one.read()) for one in loaded.onForward(given)]


def _mnn_type(runtime: Any, array: Array) -> Any:
    return {"f": runtime.expr.float, "i": runtime.expr.int}[array.dtype.kind]


def torch(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    return _torch(model, arrays, threads, False)


def torch_compile(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    return _torch(model, arrays, threads, True)


def _torch(model: str, arrays: Sequence[Array], threads: int, compiled: bool) -> Work:
    runtime = importlib.import_module("torch")
    from intaglio.loading import load_object

    runtime.set_num_threads(threads)
    module = torch_module(load_object(model))
    if module is None:
        raise ArgumentError("PyTorch runs PyTorch modules", hint="name one as file.py:name, or a .pt2 file")
    given = [runtime.from_numpy(a) for a in arrays]
    if compiled:
        settings: Any = importlib.import_module("torch._inductor.config")
        settings.freezing = True
        module = runtime.compile(module)

    def run() -> list[Array]:
        with runtime.no_grad():
            result = module(*given)
        return [t.numpy() for t in (result if isinstance(result, (list, tuple)) else [result])]

    return run


def torch_module(found: Any) -> Any:
    """A PyTorch module of an object of a model file, ready to run; None when it is none."""
    if isinstance(found, str) and Path(found).suffix == ".pt2":
        return importlib.import_module("torch").export.load(found).module()
    if type(found).__module__.startswith("torch.export"):
        return found.module()
    if any(base.__module__.startswith("torch.nn") for base in type(found).__mro__):
        return found.eval()
    return None


RUNTIMES: dict[str, Callable[[str, Sequence[Array], int, dict[str, Any]], Work]] = {
    "intaglio": intaglio,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "mnn": mnn,
    "torch": torch,
    "torch-compile": torch_compile,
}
MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "mnn": "MNN"} | dict.fromkeys(
    ("torch", "torch-compile"), "torch"
)
"""The Python module a runtime comes as."""
OF_ONNX = ("onnxruntime", "openvino", "mnn")
"""The runtimes that load ONNX files."""


def main() -> None:
    """Serve one runtime."""
    runtime, model, inputs, results, threads, *rest = sys.argv[1:]
    with np.load(inputs) as given:
        arrays = [given[name] for name in given.files]
    run = RUNTIMES[runtime](model, arrays, int(threads), json.loads(rest[0]) if rest else {})
    made = run()
    made = list(made) if isinstance(made, (list, tuple)) else [made]
    np.savez(results, *[np.asarray(one) for one in made])
    serve(run)


if __name__ == "__main__":
    try:
        main()
    except IntaglioError as error:
        sys.exit(" ".join(str(error).split()))
