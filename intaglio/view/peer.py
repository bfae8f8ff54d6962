"""One runtime in a process of its own, for `race`: it loads a model, writes its results, and is timed.

python -m intaglio.view.peer RUNTIME MODEL INPUTS.npz RESULTS.npz THREADS [SETTINGS as JSON]
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
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
    runtime.set_num_threads(threads)
    module, given = _exportable(model, arrays)
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


def litert(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    converter = importlib.import_module("litert_torch")
    interpreter = importlib.import_module("ai_edge_litert.interpreter")
    module, examples = _exportable(model, arrays)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.tflite"
        converter.convert(module, examples).export(str(made))
        loaded = interpreter.Interpreter(model_content=made.read_bytes(), num_threads=threads)
    loaded.allocate_tensors()
    slots = sorted(loaded.get_input_details(), key=lambda slot: int(slot["name"].rsplit("_", 1)[1]))
    given = [(s["index"], a.astype(s["dtype"])) for s, a in zip(slots, arrays, strict=True)]
    results = [slot["index"] for slot in loaded.get_output_details()]

    def run() -> list[Array]:
        for place, array in given:
            loaded.set_tensor(place, array)
        loaded.invoke()
        return [loaded.get_tensor(place) for place in results]

    return run


def executorch(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    exporter = importlib.import_module("torch.export")
    lowering = importlib.import_module("executorch.exir")
    kernels = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    runtime = importlib.import_module("executorch.runtime")
    pool = importlib.import_module("executorch.extension.pybindings.portable_lib")
    module, examples = _exportable(model, arrays)
    exported = exporter.export(module, examples)
    partitioner = kernels.XnnpackPartitioner()
    made = lowering.to_edge_transform_and_lower(exported, partitioner=[partitioner]).to_executorch()
    pool._unsafe_reset_threadpool(threads)
    program = runtime.Runtime.get().load_program(made.buffer)
    method, given = program.load_method("forward"), list(examples)

    def run(held: Any = (made, program)) -> list[Array]:  # the method does not hold what it needs
        return [one.numpy() for one in method.execute(given)]

    return run


def ncnn(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    runtime = importlib.import_module("ncnn")
    converter = importlib.import_module("pnnx")
    module, examples = _exportable(model, arrays)
    if any(array.ndim < 2 or array.shape[0] != 1 for array in arrays):
        raise ArgumentError("ncnn has no batches: it runs models whose inputs have 1 as their first axis")
    traced: Any = importlib.import_module("torch").jit.trace(module, examples, check_trace=False)
    kinds = {"float32": "f32", "int32": "i32", "int64": "i64"}
    shapes = [f"[{','.join(map(str, a.shape))}]{kinds[a.dtype.name]}" for a in arrays]
    net = runtime.Net()
    net.opt.num_threads = threads
    for name in ("fp16_arithmetic", "fp16_storage", "fp16_packed", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    with tempfile.TemporaryDirectory() as folder:
        traced.save(f"{folder}/model.pt")
        command = [converter.EXEC_PATH, "model.pt", f"inputshape={','.join(shapes)}", "fp16=0"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        net.load_param(f"{folder}/model.ncnn.param")
        net.load_model(f"{folder}/model.ncnn.bin")
    narrow = {"f": np.float32, "i": np.int32}
    given = [runtime.Mat(np.ascontiguousarray(a[0], narrow[a.dtype.kind])) for a in arrays]
    names, results = net.input_names(), net.output_names()

    def run() -> list[Array]:
        work = net.create_extractor()
        for name, one in zip(names, given, strict=True):
            work.input(name, one)
        return [np.array(work.extract(name)[1])[None] for name in results]

    return run


def jax(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    os.environ["NPROC"] = str(threads)  # the size of XLA's pool
    if threads == 1:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    runtime = importlib.import_module("jax")
    converter = importlib.import_module("torch2jax")
    module, _ = _exportable(model, arrays)
    translated = converter.t2j(module)
    weights = {name: converter.t2j(held) for name, held in module.state_dict().items()}
    compiled = runtime.jit(lambda *given: translated(*given, state_dict=weights))
    given = [runtime.numpy.asarray(array) for array in arrays]

    def run() -> list[Array]:
        return [np.asarray(one) for one in runtime.tree_util.tree_leaves(compiled(*given))]

    return run


def iree(model: str, arrays: Sequence[Array], threads: int, settings: dict[str, Any]) -> Work:
    compiler = importlib.import_module("iree.compiler.tools")
    importer = importlib.import_module("iree.compiler.tools.import_onnx.__main__")
    runtime = importlib.import_module("iree.runtime")
    if threads > 1:
        runtime.flags.parse_flags(f"--task_topology_max_group_count={threads}")
    config = runtime.Config("local-sync" if threads == 1 else "local-task")
    with tempfile.TemporaryDirectory() as folder:
        text = f"{folder}/model.mlir"
        importer.main(importer.parse_arguments([model, "-o", text, "--opset-version", "17"]))
        options = ("--iree-llvmcpu-target-cpu=host", "--iree-llvmcpu-stack-allocation-limit=262144")
        extra = [*options, "--iree-opt-level=O3"]
        made = compiler.compile_file(text, input_type="onnx", target_backends=["llvm-cpu"], extra_args=extra)
        loaded = runtime.VmModule.copy_buffer(config.vm_instance, made)
        hal = runtime.create_hal_module(config.vm_instance, config.device)
        context = runtime.SystemContext(vm_modules=[hal, loaded], config=config)
    entry = next(name for name in loaded.function_names if not name.startswith("_") and "$" not in name)
    function = context.modules[loaded.name][entry]

    def run() -> list[Array]:
        found = function(*arrays)
        return [np.asarray(one) for one in (found if isinstance(found, (list, tuple)) else [found])]

    return run


def _exportable(model: str, arrays: Sequence[Array]) -> tuple[Any, tuple[Any, ...]]:
    """The PyTorch module of a model file, and tensors to export it with."""
    from intaglio.loading import load_object

    module = torch_module(load_object(model))
    if module is None:
        raise ArgumentError("it runs PyTorch modules", hint="name one as file.py:name, or a .pt2 file")
    runtime = importlib.import_module("torch")
    return module, tuple(runtime.from_numpy(array) for array in arrays)


RUNTIMES: dict[str, Callable[[str, Sequence[Array], int, dict[str, Any]], Work]] = {
    "intaglio": intaglio,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "mnn": mnn,
    "ncnn": ncnn,
    "litert": litert,
    "executorch": executorch,
    "iree": iree,
    "jax": jax,
    "torch": torch,
    "torch-compile": torch_compile,
}
MODULES = {
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "mnn": ("MNN", "mnn"),
    "ncnn": ("pnnx", "ncnn pnnx"),
    "litert": ("litert_torch", "litert-torch"),
    "executorch": ("executorch", "executorch"),
    "iree": ("iree", "'iree-base-compiler[onnx]' iree-base-runtime"),
    "jax": ("torch2jax", "jax torch2jax"),
    "torch": ("torch", "torch"),
    "torch-compile": ("torch", "torch"),
}
"""The Python module a runtime comes as, and what pip installs."""
OF_ONNX = ("onnxruntime", "openvino", "mnn", "iree")
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
