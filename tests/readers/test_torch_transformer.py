"""Transformers in evaluation, which PyTorch runs as one operator, against eager."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch_programs import compiled  # noqa: E402

nn = torch.nn
CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
PADDED = torch.tensor([[False, False, False, True, True], [False] * 5])
NOTHING = torch.tensor([[True] * 5, [False] * 5])
pytestmark = pytest.mark.filterwarnings("ignore")


def check(module: Any, *inputs: Any, **named: Any) -> None:
    module.eval()
    with torch.no_grad():
        expected, found = module(*inputs, **named), compiled(module, fullgraph=True)(*inputs, **named)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "masks",
    [{}, {"src_key_padding_mask": PADDED}, {"src_mask": CAUSAL}, {"src_key_padding_mask": NOTHING},
     {"src_mask": torch.zeros(5, 5).masked_fill(CAUSAL, -torch.inf)},
     {"src_mask": CAUSAL, "src_key_padding_mask": PADDED}],
    ids=lambda masks: "-".join(masks) or "none",
)  # fmt: skip
def test_masks_of_an_encoder_layer(masks: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8), **masks)


def test_an_encoder_with_norms_first() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 4, 16, activation="gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    check(encoder, torch.randn(2, 5, 8))


@pytest.mark.parametrize("weights", [(True, True), (True, False), (False, True)])
def test_attention_of_several_heads(weights: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    named = {"need_weights": weights[0], "average_attn_weights": weights[1], "key_padding_mask": PADDED}
    check(nn.MultiheadAttention(8, 2, batch_first=True), x, x, x, **named)


GIVEN: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3},
    "mask": {"attn_mask": ~CAUSAL},
    "nothing seen": {"attn_mask": ~CAUSAL & (torch.arange(5) != 2)[:, None]},
    "numbers": {"attn_mask": torch.rand(5, 5)},
    "shared heads": {"enable_gqa": True},
}


@pytest.mark.parametrize("name", GIVEN)
def test_attention_is_whole_at_inference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `intaglio.compile`, which has as many kernels; in training it is in parts."""
    from intaglio import torch_backend
    from intaglio.graph.ir import Graph

    torch.manual_seed(0)
    heads = 2 if name == "shared heads" else 4
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, heads, 5, 8), torch.randn(2, heads, 5, 8)
    graphs: list[Graph] = []
    compile_graph = torch_backend.compile_graph

    def spy(graph: Graph, **settings: Any) -> Any:
        graphs.append(graph)
        return compile_graph(graph, **settings)

    def attend(q: Any, k: Any, v: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(q, k, v, **GIVEN[name])

    monkeypatch.setattr(torch_backend, "compile_graph", spy)
    expected = attend(q, k, v)
    torch.testing.assert_close(compiled(attend)(q, k, v), expected, rtol=1e-4, atol=1e-5)
    parameter = q.clone().requires_grad_()
    found = compiled(attend)(parameter, k, v)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    (own,) = torch.autograd.grad(found.sum(), parameter)
    torch.testing.assert_close(own, torch.autograd.grad(attend(parameter, k, v).sum(), parameter)[0])
    regions = [{str(node.region) for node in graph.nodes} for graph in graphs[:2]]
    assert ["attention" in " ".join(names) for names in regions] == [True, False]
