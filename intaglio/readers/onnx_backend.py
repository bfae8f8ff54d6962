"""ONNX's backend interface (`onnx.backend.base`): `prepare(model).run(inputs)`, `run_model`, `run_node`.

It knows the whole compiler, as the command line does: a model runs as compiled C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from intaglio.readers.onnx.model import NEWEST, OLDEST
from intaglio.readers.onnx.registry import find_handler
from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.specialised import SpecialisedModel


class IntaglioRep(BackendRep):
    """A model that compiles for the shapes it is run with."""

    def __init__(self, model: SpecialisedModel) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for inputs in the model's order, or by name; a tuple with the outputs' names."""
        if kwargs:
            raise ArgumentError(f"run takes no {', '.join(kwargs)}")
        if isinstance(inputs, dict):
            results = list(self.model.run(inputs).values())
        else:
            single = isinstance(inputs, np.ndarray) or not isinstance(inputs, Sequence)
            results = self.model.run_arrays([inputs] if single else inputs)
        made: tuple[Any, ...] = namedtupledict("Outputs", self.model.output_names)(*results)
        return made


class IntaglioBackend(Backend):
    """Intaglio as a backend of ONNX; settings are those of `intaglio.compile`."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a device is the CPU."""
        return bool(Device(device).type == DeviceType.CPU)

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether there is a handler for every operator of the model and of its functions."""
        try:
            _check(model)
        except UnsupportedError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> IntaglioRep:
        """A model to run. Raises UnsupportedError for another device than the CPU."""
        if not cls.supports_device(device):
            raise UnsupportedError(f"device {device!r} is not supported", hint="use 'CPU'")
        return IntaglioRep(SpecialisedModel(model, **kwargs))

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one operator on arrays, one for each input that has a name; `opset_version` says which."""
        version = kwargs.pop("opset_version", NEWEST)
        names = list(dict.fromkeys(name for name in node.input if name))
        arrays = [np.asarray(x) for x in inputs]
        if len(arrays) != len(names):
            raise ArgumentError(f"{node.op_type} reads {len(names)} inputs, {len(arrays)} were given")
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], node.op_type, infos, outputs)
        sets = [helper.make_opsetid(node.domain, 1 if node.domain else version)]
        return cls.run_model(helper.make_model(graph, opset_imports=sets), arrays, device, **kwargs)


def _check(model: ModelProto) -> None:
    """Raise UnsupportedError for an operator set or operator of the model that is not supported."""
    own = {(f.domain, f.name) for f in model.functions}
    _check_nodes(model.graph.node, model.opset_import, own)
    for function in model.functions:
        _check_nodes(function.node, function.opset_import, own)


def _check_nodes(nodes: Any, opsets: Any, own: set[tuple[str, str]]) -> None:
    versions = {"" if one.domain == "ai.onnx" else one.domain: one.version for one in opsets}
    if "" in versions and not OLDEST <= versions[""] <= NEWEST:
        raise UnsupportedError(f"operator set {versions['']} is not supported")
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) not in own:
            find_handler(domain, node.op_type, versions.get(domain, 1))
        for attribute in node.attribute:
            waiting.extend(n for graph in (attribute.g, *attribute.graphs) for n in graph.node)


is_compatible = IntaglioBackend.is_compatible
prepare = IntaglioBackend.prepare
run_model = IntaglioBackend.run_model
run_node = IntaglioBackend.run_node
supports_device = IntaglioBackend.supports_device
