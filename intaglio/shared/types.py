"""The type of a tensor: its element type and shape."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike, product, upper


@dataclass(frozen=True, slots=True)
class TensorType:
    """`f32[2,batch]`: an element type and a shape; a dimension is an int or a symbol with bounds."""

    dtype: DType
    shape: tuple[IndexLike, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> IndexLike:
        """Number of elements; symbolic when a dimension is."""
        return product(self.shape)

    @property
    def max_bytes(self) -> int | None:
        """Bytes in the worst case, None when a symbol has no bound."""
        size = upper(self.size)
        return None if size is None else size * self.dtype.size
