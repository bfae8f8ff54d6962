"""The passes of the graph level, in the order they run. Each takes a graph and returns a new one,
or the same one when it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from intaglio.graph.ir import Graph
from intaglio.graph.passes.canonicalize import canonicalize_ops
from intaglio.graph.passes.combine_parallel import combine_parallel_conv2d, combine_parallel_matmul
from intaglio.graph.passes.common_subexpr import eliminate_common_subexpr
from intaglio.graph.passes.dead_code import dead_code
from intaglio.graph.passes.fake_quantization import fake_quantization_to_integer
from intaglio.graph.passes.fold_constant import fold_constant
from intaglio.graph.passes.fold_scale_axis import fold_scale_axis
from intaglio.graph.passes.hoist_reductions import hoist_reductions
from intaglio.graph.passes.merge_loops import merge_loops
from intaglio.graph.passes.relu_masks import relu_masks
from intaglio.graph.passes.simplify_inference import simplify_inference
from intaglio.graph.passes.simplify_reductions import simplify_reductions
from intaglio.graph.passes.sink_constants import sink_constants


@dataclass(frozen=True, slots=True)
class Pass:
    """A rewrite of whole graphs that runs from `opt_level` `level` on; its argument is left as it is."""

    name: str
    level: int
    function: Callable[[Graph], Graph]


PASSES: tuple[Pass, ...] = (
    Pass("MergeLoops", 0, merge_loops),
    Pass("SimplifyInference", 0, simplify_inference),
    Pass("SinkConstants", 2, sink_constants),
    Pass("FakeQuantizationToInteger", 2, fake_quantization_to_integer),
    Pass("FoldConstant", 2, fold_constant),
    Pass("ReluMasks", 3, relu_masks),
    Pass("CanonicalizeOps", 3, canonicalize_ops),
    Pass("SimplifyReductions", 3, simplify_reductions),
    Pass("HoistReductions", 3, hoist_reductions),
    Pass("EliminateCommonSubexpr", 3, eliminate_common_subexpr),
    Pass("FoldScaleAxis", 3, fold_scale_axis),
    Pass("CombineParallelConv2D", 3, combine_parallel_conv2d),
    Pass("CombineParallelMatmul", 3, combine_parallel_matmul),
    Pass("DeadCode", 0, dead_code),
)
