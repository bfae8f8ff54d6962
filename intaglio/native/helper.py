"""What a helper function of the generated C is, and how element types are spelled in C."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.shared.dtypes import DType

C_TYPES = {"f64": "double", "f32": "float", "f16": "uint16_t", "bf16": "uint16_t", "bool": "bool"} | {
    f"{kind}{bits}": f"{'u' if kind == 'u' else ''}int{bits}_t" for kind in "iu" for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True, slots=True)
class Helper:
    """C text of functions or types, the helpers it builds on and the headers it includes."""

    text: str
    needs: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


def c_type(dtype: DType) -> str:
    """The C type that holds an element; f16 and bf16 are held as their bits."""
    return C_TYPES[dtype.name]


def element_type(dtype: DType) -> str:
    """The C type of an array's elements. Truth values are bytes of 0 or 1: compilers (gcc 12) leave loops
    that select by an array of `bool` as branches, and make vectors of those that select by bytes."""
    return "uint8_t" if dtype.kind == "bool" else c_type(dtype)
