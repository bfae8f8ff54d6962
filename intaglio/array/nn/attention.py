"""Multi-head attention and the transformer's encoder layer, with PyTorch's parameters and masks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from intaglio.array import functional as F
from intaglio.array.nn import init
from intaglio.array.nn.container import ModuleList
from intaglio.array.nn.dropout import Dropout
from intaglio.array.nn.linear import Linear
from intaglio.array.nn.module import Module, Parameter
from intaglio.array.nn.norm import LayerNorm
from intaglio.ops.compositions.basic import convert
from intaglio.ops.registry import prim
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, ShapeError


class MultiheadAttention(Module):
    """Attention of `num_heads` heads between a query [l, n, e] and keys and values [s, n, .].

    With `batch_first` the axes are [n, l, e]; the batch axis may be absent. Masks are as PyTorch has
    them: boolean ones are true where attention is *not* allowed, floating ones are added to the scores.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = "f32",
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout = dropout
        self.batch_first = batch_first
        packed = self.kdim == embed_dim == self.vdim
        widths = {"in_proj_weight": embed_dim if packed else None}
        widths |= {
            f"{part}_proj_weight": None if packed else width
            for part, width in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim))
        }
        for name, width in widths.items():
            rows = embed_dim * (3 if packed else 1)
            bound = 0.0 if width is None else math.sqrt(6 / (rows + width))
            self.register_parameter(
                name, None if width is None else Parameter(init.uniform((rows, width), bound, dtype))
            )
        zeros = init.uniform((3 * embed_dim,), 0.0, dtype)
        self.register_parameter("in_proj_bias", Parameter(zeros) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if bias:
            self.out_proj.bias = Parameter(zeros[:embed_dim])

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> Any:
        """The attended values, shaped as the query, and (unless `need_weights=False`) the weights [n, l, s].

        Args:
            key_padding_mask: [n, s] of keys to leave out.
            attn_mask: [l, s] or [n * num_heads, l, s].
            is_causal: a hint that `attn_mask` is the causal mask; the mask itself decides.
        """
        if is_causal and attn_mask is None:
            raise ArgumentError("MultiheadAttention: is_causal=True needs attn_mask")
        batched = len(query.shape) == 3
        q, k, v = (self._rows(x, batched) for x in self._projected(query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        rate = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = F.matmul(q * (1 / math.sqrt(self.head_dim)), k.transpose(-2, -1))
            weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
            if rate:
                weights = F.dropout(weights, rate)
            attended = F.matmul(weights, v)
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, rate)
        order = (0, 2, 1, 3) if self.batch_first or not batched else (2, 0, 1, 3)
        return self.out_proj(attended.permute(*order).reshape(*query.shape)), weights

    def _projected(self, query: Any, key: Any, value: Any) -> tuple[Any, ...]:
        size = self.embed_dim
        if self.in_proj_weight is not None and query is key and key is value:
            joined = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            return tuple(joined[..., k * size : (k + 1) * size] for k in range(3))
        parts = [slice(k * size, (k + 1) * size) for k in range(3)]
        if self.in_proj_weight is not None:
            weights = [self.in_proj_weight[part] for part in parts]
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None if self.in_proj_bias is None else self.in_proj_bias[part] for part in parts]
        return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))

    def _rows(self, x: Any, batched: bool) -> Any:
        """[n, heads, l, head_dim] of a projected operand."""
        if not batched:
            return x.reshape(1, x.shape[0], self.num_heads, self.head_dim).permute(0, 2, 1, 3)
        split = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
        return split.permute(0, 2, 1, 3) if self.batch_first else split.permute(1, 2, 0, 3)

    def _mask(self, attn_mask: Any, key_padding_mask: Any, q: Any, k: Any) -> Any:
        """What is added to the scores [n, heads, l, s], or None."""
        n, heads, l, s = q.shape[0], self.num_heads, q.shape[2], k.shape[2]
        mask = None
        if attn_mask is not None:
            if tuple(attn_mask.shape) not in ((l, s), (n * heads, l, s)):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask is {list(attn_mask.shape)}, expected "
                    f"{[l, s]} or {[n * heads, l, s]}"
                )
            added = _additive(attn_mask, q.dtype)
            mask = added if len(attn_mask.shape) == 2 else added.reshape(n, heads, l, s)
        if key_padding_mask is not None:
            if math.prod(key_padding_mask.shape) != n * s:
                raise ShapeError(
                    f"MultiheadAttention: key_padding_mask is {list(key_padding_mask.shape)}, "
                    f"expected {[n, s]}"
                )
            padding = _additive(key_padding_mask, q.dtype).reshape(n, 1, 1, s)
            mask = padding if mask is None else mask + padding
        return mask

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


def _additive(mask: Any, dtype: DType) -> Any:
    """A mask to be added to scores; a boolean one is true where attention is not allowed."""
    added = prim.where(mask, -math.inf, 0.0) if mask.dtype.kind == "bool" else mask
    return convert(added, dtype)


class TransformerEncoderLayer(Module):
    """Self-attention and a two-layer perceptron, each with a residual connection and layer norm."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = "f32",
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise ArgumentError(
                    f"TransformerEncoderLayer: activation {activation!r} is neither relu nor gelu"
                )
            activation = F.relu if activation == "relu" else F.gelu
        self.activation = activation

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Any:
        masks = {"attn_mask": src_mask, "key_padding_mask": src_key_padding_mask, "is_causal": is_causal}
        if self.norm_first:
            x = src + self._attend(self.norm1(src), masks)
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(src + self._attend(src, masks))
        return self.norm2(x + self._feed_forward(x))

    def _attend(self, x: Any, masks: dict[str, Any]) -> Any:
        attended, _ = self.self_attn(x, x, x, need_weights=False, **masks)
        return self.dropout1(attended)

    def _feed_forward(self, x: Any) -> Any:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """Copies of an encoder layer, one after another, and an optional last norm."""

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.add_module("norm", norm)

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None) -> Any:
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if self.norm is None else self.norm(src)
