"""What the C kernel of attention is told, of keys and values or of latents alike."""

import ctypes
from functools import lru_cache

import mlx.core as mx

from ..cpu.library import POINTER, Function, address, array, optional, output, ready
from .pages import Format, Heads, Layout, Pages
from .rope import Table

# As in simd.h and attention.h.
FORMATS = {Format.FLOAT32: 0, Format.FLOAT16: 1, Format.BFLOAT16: 2, Format.INT8: 4, Format.INT4: 5}
INT32 = ctypes.c_int32


class PoolStruct(ctypes.Structure):
    """One of a layer's two pools (kernels/attention/attention.h)."""

    _fields_ = (
        *((name, POINTER) for name in ("codes", "scales", "biases")),
        *((name, INT32) for name in ("width", "format", "kv_heads", "keys")),
    )


class HeadsStruct(ctypes.Structure):
    """A layer's `Heads`, the same in every step."""

    _fields_ = (
        *((name, POINTER) for name in ("q_norm", "k_norm", "sinks")),
        *((name, INT32) for name in ("heads", "kv_heads", "value_width")),
        *((name, INT32) for name in ("rope_offset", "interleaved", "window")),
        *((name, ctypes.c_float) for name in ("scale", "softcap", "eps")),
    )


class LayoutStruct(ctypes.Structure):
    """A step's `Layout` and rotary table, the same in every layer."""

    _fields_ = (
        *(
            (name, POINTER)
            for name in ("cos", "sin", "positions", "slot_mapping", "owners", "tables")
        ),
        *((name, INT32) for name in ("rows", "table_width", "pairs")),
    )


class AttentionStruct(ctypes.Structure):
    """The C kernel's only argument (kernels/attention/attention.h)."""

    _fields_ = (
        *((name, POINTER) for name in ("q", "k", "v", "out")),
        *((name, INT32) for name in ("q_stride", "kv_stride")),
        ("keys", PoolStruct),
        ("values", PoolStruct),
        ("heads", HeadsStruct),
        ("layout", LayoutStruct),
    )


ATTENTION = ctypes.POINTER(AttentionStruct)


def run(
    native: Function,
    starts: tuple[int, int, int | None],
    strides: tuple[int, int],
    heads: Heads,
    table: Table,
    pages: Pages,
    layout: Layout,
) -> tuple[mx.array, Pages]:
    """Append a step's keys and values in place, and return the rows' attention.

    starts: addresses of queries, keys and values in float32; strides: from one row's queries to the
    next one's, and from one row's keys (and values) to the next one's.
    """
    rows = layout.positions.shape[0]
    if not rows:
        return mx.zeros((0, heads.heads * heads.value_dim)), pages
    out = output(rows, heads.heads * heads.value_dim)
    format, kv_heads = FORMATS[pages.format], heads.kv_heads
    call = AttentionStruct(
        *starts,
        address(out),
        *strides,
        PoolStruct(
            *map(optional, (pages.keys, pages.key_scales, pages.key_biases)),
            *(heads.head_dim, format, kv_heads, 1),
        ),
        PoolStruct(
            *map(optional, (pages.values, pages.value_scales, pages.value_biases)),
            *(heads.value_dim, format, kv_heads, 0),
        ),
        _heads_struct(heads),
        layout.once(_layout_struct, table),
    )
    native(call)
    return array(out), pages


@lru_cache(maxsize=1024)
def _heads_struct(heads: Heads) -> HeadsStruct:
    arrays = (heads.q_norm, heads.k_norm, heads.sinks)
    assert all(array is None or array.dtype == mx.float32 for array in arrays)
    return HeadsStruct(
        *(optional(array) for array in arrays),
        *(heads.heads, heads.kv_heads, heads.value_dim),
        *(heads.rope_offset, heads.interleaved, heads.window or 0),
        *(heads.scale, heads.softcap or 0.0, heads.eps),
    )


def _layout_struct(layout: Layout, table: Table) -> LayoutStruct:
    rows, pairs = layout.positions.shape[0], table.cos.shape[-1]
    assert ready(table.cos) is table.cos and ready(table.sin) is table.sin
    angles = (address(table.cos), address(table.sin)) if pairs else (None, None)
    arrays = (layout.positions, layout.slot_mapping, layout.owners, layout.tables)
    return LayoutStruct(
        *angles, *(address(array) for array in arrays), rows, arrays[3].shape[1], pairs
    )
