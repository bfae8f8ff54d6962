# ruff: noqa: E501
"""Methods, operators and indexing of Tensors: values and gradients equal PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import intaglio

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4)).astype(np.float32)
B = RNG.standard_normal((2, 3, 4)).astype(np.float32)
M = RNG.standard_normal((3, 4)).astype(np.float32)
P = (np.abs(A) + 0.5).astype(np.float32)
U = np.clip(A / 4, -0.9, 0.9).astype(np.float32)
I = RNG.integers(-5, 6, (2, 3, 4))

# Expressions over a, b [2,3,4], m [3,4], p > 0 and u in -0.9 .. 0.9 [2,3,4], in both libraries' words.
DIFFERENTIABLE = """
a + b | a - b | a * b | a / p | a + m | m * a | a - 2 | 2 - a | 3 / p | -a | a ** 2 | a ** 3 | p ** 0.5 | p ** b | 2.0 ** a
p ** -1.0 | abs(a) | a @ b.mT | a @ m.T | m @ a.mT | m[0] @ a.mT | a.matmul(m.T) | m.mm(m.T) | m[0].dot(m[1]) | a.bmm(b.mT)
m.mv(m[0]) | m[0].outer(m[1])
a.sum() | a.sum(1) | a.sum(-1, keepdim=True) | a.sum((0, 2)) | a.mean() | a.mean((1, 2)) | a.mean(0, True) | a.prod(1) | p.prod()
a.var() | a.var(1) | a.std(2) | a.var(1, unbiased=False) | a.std((0, 1), correction=0) | a.max() | a.min() | a.max(1).values
a.min(-1, keepdim=True)[0] | a.amax((0, 1)) | a.amin(2) | a.max(b) | a.maximum(b) | a.minimum(m) | a.logsumexp(1) | a.norm()
a.norm(1, 2) | a.cumsum(1) | a.cumprod(2)
a.exp() | a.expm1() | p.log() | p.log1p() | p.log2() | p.log10() | p.sqrt() | p.rsqrt() | a.square() | p.reciprocal() | a.sin()
a.cos() | u.tan() | u.asin() | u.acos() | a.atan() | a.sinh() | a.cosh() | a.tanh() | a.asinh() | (p + 1).acosh() | u.atanh()
a.atan2(p) | a.erf() | a.erfc() | a.sigmoid() | a.relu() | a.floor() * a | a.ceil() * a | a.round() * a | a.trunc() * a
a.abs() | a.sign() * a | a.clamp(-0.5, 0.5) | a.clamp(min=0.1) | a.clip(max=b) | a.exp2() | a.hypot(p) | a.logaddexp(b)
a.lerp(b, 0.3) | a.addcmul(b, p, value=0.5) | a.addcdiv(b, p, value=2) | a.add(b, alpha=3) | a.sub(b, alpha=2) | a.pow(2)
a.softmax(-1) | a.log_softmax(1) | a.where(a > 0, b) | a.masked_fill(a > 0, 7.0) | a.nan_to_num()
a.reshape(6, 4) | a.reshape((4, -1)) | a.view(-1) | a.flatten() | a.flatten(1) | a.squeeze() | a[:, :1].squeeze(1) | a.unsqueeze(0)
a.unsqueeze(-1) | a.transpose(0, 2) | a.permute(2, 0, 1) | a.mT | m.T | m.t() | a.movedim(0, 2) | a[:1].expand(5, -1, 4) | m.expand(2, 3, 4)
m.expand_as(a) | a.unflatten(2, (2, 2)) | a.repeat(2, 1, 3) | a.tile((2,)) | a.repeat_interleave(2, 1) | a.flip(0) | a.flip((0, 2))
a.roll(1, 2) | a.roll(5) | a.tril() | a.triu(1) | a.split(2, 1)[0] | a.split([1, 2], 1)[1] | a.chunk(2, 2)[1] | a.unbind(1)[2]
a.narrow(2, 1, 2) | a.select(1, 2) | a.sort(1).values | a.sort(2, True)[0] | a.topk(2, 2).values | a.topk(2, 1, False)[0]
a.index_select(1, i(2, 0, 2)) | a.gather(2, j(1, 0, 3)) | a.scatter_add(2, j(1, 0, 3), b[..., :3]) | a.index_add(1, i(0, 2), b[:, :2])
a.masked_select(a > 0) | a.clone() * 2 | a.detach() * b | a.double() * 2 | a.to(b) * 2 | a.float()
a[0] | a[-1] | a[1, 2] | a[:, 1] | a[..., 0] | a[None] | a[:, None, 1] | a[:, 1:] | a[:, ::2] | a[..., 1:3] | a[0, ..., 1:] | a[1:, 1]
a[i(1, 0)] | a[:, i(2, 0, 0)] | a[i(0, 1), i(2, 1)] | a[i(0, 1), :, i(3, 1)] | a[:, i(0, 1), i(2, 3)] | a[[1, 0, 1]] | a[a > 0]
a[:, 1, i(0, 2)] | a[i(0, 1), None] | a[a[:, :, 0] > 0] | a[0][a[0] > 0] | a[-1, -2, -3] | a[:, :, -2:] | a[()]
sum(x.sum() for x in a) | (a > 0).float() * a | a.mean(1).unsqueeze(1) * a | (a * b).sum() / (a.norm() * b.norm())
"""
VALUES = """
a > b | a >= 0 | a < m | a <= b | a == a | a != b | (a > 0) & (b > 0) | (a > 0) | (b > 0) | (a > 0) ^ (b > 0) | ~(a > 0)
a.argmax() | a.argmax(1) | a.argmin(-1, keepdim=True) | a.max(1).indices | a.sort(1).indices | a.argsort(2) | a.topk(2).indices
(a > 0).all() | (a > 0).any(1) | (a > 0).sum() | (a > 0).sum(0) | a.isnan() | a.isinf() | a.isfinite() | a.count_nonzero()
k + k | k * 2 | k - 3 | k / 2 | k // 2 | k % 3 | k // -2 | k.remainder(4) | k.fmod(3) | k & 3 | k | 4 | k ^ 5 | ~k | k.abs() << 2 | k >> 1
k + 0.5 | k * a | k.float() | k.int() | k.short() | a.long() | a.int() | a.bool() | k.bool() | k.sum() | k.prod() | k.max() | k.cumsum(1)
a // 0.3 | a % 0.3 | a.floor_divide(b) | a.div(b, rounding_mode="trunc") | a.logical_and(b) | (a > 0).logical_not() | 1 // p | 2 % p
k.sum(0, dtype=torch.float32) | (a > 0) + (b > 0) | (a > 0) * 2 | k ** 2 | a.half().float() | a.bfloat16().float() | a.clamp(0, 1)
a.tolist()[0][1][2] | a.shape[1] | a.size(-1) | a.numel() | a.ndim | a.dim() | len(a) | a[0, 0, 0].item() | float(a[0, 0, 0]) | int(k[0, 0, 0])
"""


def split(text):
    return [e.strip() for line in text.strip().splitlines() for e in line.split(" | ") if e.strip()]


class Words:
    """Names that the expressions use, in one of the libraries."""

    def __init__(self, tensor, wrt):
        self.leaves = {
            name: tensor(x, name in wrt) for name, x in {"a": A, "b": B, "m": M, "p": P, "u": U}.items()
        }
        self.names = {
            **self.leaves,
            "k": tensor(I, False),
            "i": lambda *v: tensor(np.array(v), False),
            "j": lambda *v: tensor(np.broadcast_to(np.array(v), (2, 3, 3)).copy(), False),
        }


def ours(x, grad):
    return intaglio.tensor(x, requires_grad=grad)


def theirs(x, grad):
    return torch.tensor(x, requires_grad=grad)


def array(x):
    return np.asarray(x.detach().numpy() if hasattr(x, "detach") else x)


@pytest.mark.parametrize("expression", split(DIFFERENTIABLE))
def test_values_and_gradients(expression):
    results = []
    for tensor in (ours, theirs):
        words = Words(tensor, "abmpu")
        y = eval(expression, dict(words.names))
        shape = tuple(y.shape)
        weight = np.random.default_rng(1).standard_normal(shape)
        (y.double() * tensor(weight, False)).sum().backward()
        gradients = {n: None if x.grad is None else array(x.grad) for n, x in words.leaves.items()}
        results.append((array(y), gradients))
    (own, own_grads), (wanted, wanted_grads) = results
    assert own.dtype == wanted.dtype
    assert own.shape == wanted.shape
    np.testing.assert_allclose(own, wanted, rtol=2e-5, atol=2e-6)
    for name, gradient in wanted_grads.items():
        if gradient is None or own_grads[name] is None:
            assert not np.any(gradient if own_grads[name] is None else own_grads[name]), name
        else:
            assert own_grads[name].dtype == np.float32
            np.testing.assert_allclose(own_grads[name], gradient, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("expression", split(VALUES))
def test_values(expression):
    own = eval(expression.replace("torch.float32", "f32"), {**Words(ours, "").names, "f32": intaglio.f32})
    wanted = eval(expression, {**Words(theirs, "").names, "torch": torch})
    assert type(own) is type(wanted) or hasattr(own, "numpy")
    own, wanted = array(own), array(wanted)
    assert own.dtype == wanted.dtype
    np.testing.assert_allclose(own, wanted, rtol=1e-5)


IN_PLACE = """
x.add_(b); x.add_(b, alpha=2); x.sub_(1); x.mul_(b); x.div_(p); x.pow_(2); x.copy_(b); x.neg_()
x.abs_(); x.exp_(); x.clamp_(-0.5, 0.5); x.relu_(); x.sigmoid_(); x.tanh_(); x.square_(); x.floor_(); x.round_(); x.lerp_(b, 0.25)
x.addcmul_(b, p, value=0.1); x.addcdiv_(b, p); x.masked_fill_(b > 0, 0.0); x.scatter_add_(2, j(1, 0, 3), b[..., :3])
x += b; x -= 2; x *= b; x /= p; x **= 2; x[0] = 1.0; x[:, 1] = b[:, 0]; x[..., ::2] = 0.0; x[1, 2, 3] = 5.0; x[b > 0] = 0.0
x[i(1, 0)] = b; x[:, i(2, 0)] = b[:, :2]; x[0, :, i(0, 2)] = m[:, :2]; x[:] = b; x[1:, 1:] = b[1:, 1:]; x[..., -1] = m[:, 0]
x[b[:, :, 0] > 0] = 2.0; x[0, 1] *= 3.0; x[:, 1:] += b[:, :2]; x[None] = b; x[1] = m
"""


@pytest.mark.parametrize(
    "statement", [s.strip() for s in IN_PLACE.replace("\n", ";").split(";") if s.strip()]
)
def test_changes_in_place(statement):
    """`x` is computed from `a`; values, and gradients through what was overwritten."""
    results = []
    for tensor in (ours, theirs):
        words = Words(tensor, "ab")
        names = {**words.names, "x": words.leaves["a"] * 1}
        alias = names["x"]
        exec(statement, names)
        x = names["x"]
        assert x is alias
        weight = tensor(np.random.default_rng(1).standard_normal((2, 3, 4)), False)
        (x.double() * weight).sum().backward()
        results.append(
            [array(x), *(None if words.leaves[n].grad is None else array(words.leaves[n].grad) for n in "ab")]
        )
    for own, wanted in zip(*results, strict=True):
        if own is None or wanted is None:
            assert not np.any(own if wanted is None else wanted)
        else:
            np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-5)


def test_fill_and_zero():
    x = intaglio.tensor(A)
    assert x.fill_(3.5) is x
    np.testing.assert_array_equal(x.numpy(), np.full_like(A, 3.5))
    np.testing.assert_array_equal(x.zero_().numpy(), np.zeros_like(A))


CREATED = """
zeros(2, 3) | ones((2, 3)) | full((2, 2), 7) | full((2,), 0.5) | full((), True) | arange(5) | arange(1, 10, 3) | arange(0, 1, 0.25)
arange(5, 0, -2) | linspace(0, 1, 5) | eye(3) | eye(2, 3) | tensor([1, 2]) | tensor([1.5, 2]) | tensor([True, False]) | tensor(3)
tensor([]) | tensor([[1, 2], [3, 4]]) | zeros(0, 3) | cat([tensor([1]), tensor([2.5])]) | stack([tensor([1, 2]), tensor([3, 4])], 1)
where(tensor([True, False]), tensor([1.0, 2.0]), tensor(0.0)) | einsum("ij,jk->ik", ones(2, 3), ones(3, 4)) | zeros_like(arange(3))
ones_like(tensor([1.5])) | maximum(tensor([1, 5]), tensor([3, 2])) | zeros(2, dtype=float64) | clamp(arange(5), 1, 3)
"""


@pytest.mark.parametrize("expression", split(CREATED))
def test_creation(expression):
    own = eval(expression, {**vars(intaglio), "float64": intaglio.f64})
    wanted = eval(expression, dict(vars(torch)))
    assert own.numpy().dtype == wanted.numpy().dtype
    np.testing.assert_array_equal(own.numpy(), wanted.numpy())
