"""Attention of a step in one call: norms of heads, rotary positions, append, paged attention."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from ..cpu.library import POINTER, Function, address, array, optional, output, ready
from ..linear.rows import join, split
from ..metal.device import device
from ..norm.rms_norm import rms_norm, rms_norm_reference
from ..registry import InMetal, Key, Operation, bucket, in_c, uses_custom
from .attention_metal import attention_metal, covered
from .latent_attention import Place, covers, latent_attention_metal
from .paged_attention import append, paged_attention, paged_attention_reference
from .pages import FORMATS as FORMATS_OF
from .pages import PAGE, Format, Heads, Layout, Pages, zeros
from .rope import Table, rope, rope_reference, rope_table

FORMATS = {
    Format.FLOAT32: 0,
    Format.FLOAT16: 1,
    Format.BFLOAT16: 2,
    Format.INT8: 4,
    Format.INT4: 5,
}  # as in simd.h and attention.h


INT32 = ctypes.c_int32


class Pool(ctypes.Structure):
    """One of a layer's two pools (kernels/attention/attention.h)."""

    _fields_ = (
        *((name, POINTER) for name in ("codes", "scales", "biases")),
        *((name, INT32) for name in ("width", "format", "kv_heads", "keys")),
    )


class Layer(ctypes.Structure):
    """What is the same in every step."""

    _fields_ = (
        *((name, POINTER) for name in ("q_norm", "k_norm", "sinks")),
        *((name, INT32) for name in ("heads", "kv_heads", "value_width")),
        *((name, INT32) for name in ("turned_from", "interleaved", "window")),
        *((name, ctypes.c_float) for name in ("scale", "softcap", "eps")),
    )


class Step(ctypes.Structure):
    """What is the same in every layer."""

    _fields_ = (
        *((name, POINTER) for name in ("cos", "sin", "positions", "slots", "owners", "tables")),
        *((name, INT32) for name in ("rows", "table_width", "turned")),
    )


class Call(ctypes.Structure):
    """All that the C kernel is told (kernels/attention/attention.h)."""

    _fields_ = (
        *((name, POINTER) for name in ("q", "k", "v", "out")),
        *((name, INT32) for name in ("q_stride", "kv_stride")),
        ("keys", Pool),
        ("values", Pool),
        ("layer", Layer),
        ("step", Step),
    )


@lru_cache(maxsize=1024)
def _unnormed(heads: Heads) -> Heads:
    return replace(heads, k_norm=None)


def _split(qkv: mx.array, heads: Heads) -> tuple[mx.array, mx.array, mx.array]:
    keys = heads.heads * heads.head_dim
    values = keys + heads.kv_heads * heads.head_dim
    q, k, v = mx.split(qkv, [keys, values], axis=1)
    return (
        q.reshape(-1, heads.heads, heads.head_dim),
        k.reshape(-1, heads.kv_heads, heads.head_dim),
        v.reshape(-1, heads.kv_heads, heads.value_dim),
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What attention is made of, by MLX's own operations or by the definitions."""

    norm: Callable[[mx.array, mx.array, float], mx.array]
    rope: Callable[[mx.array, Table, bool, int], mx.array]
    attend: Callable[[mx.array, Pages, Layout, Heads], mx.array]
    dtype: mx.Dtype | None = None

    def attention(
        self, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
    ) -> tuple[mx.array, Pages]:
        """As `attention`."""
        return self._attended(*_split(self._cast(qkv), heads), (heads, table, pages, layout))

    def latent_attention(
        self,
        q: mx.array,
        latent: mx.array,
        heads: Heads,
        table: Table,
        pages: Pages,
        layout: Layout,
    ) -> tuple[mx.array, Pages]:
        """As `latent_attention`."""
        q, latent = self._cast(q).reshape(-1, heads.heads, heads.head_dim), self._cast(latent)
        if heads.k_norm is not None:
            value, rest = split(latent, [heads.value_dim])
            value = self.norm(value, heads.k_norm, heads.eps).astype(latent.dtype)
            latent, heads = join([value, rest]), _unnormed(heads)
        return self._attended(q, latent[:, None], None, (heads, table, pages, layout))

    def _cast(self, x: mx.array) -> mx.array:
        return x if self.dtype is None else x.astype(self.dtype)

    def _attended(
        self, q: mx.array, k: mx.array, v: mx.array | None, place: Place
    ) -> tuple[mx.array, Pages]:
        heads, table, pages, layout = place
        q = q if heads.q_norm is None else self.norm(q, heads.q_norm, heads.eps)
        k = k if heads.k_norm is None else self.norm(k, heads.k_norm, heads.eps)
        q, k = (self.rope(x, table, heads.interleaved, heads.turned_from) for x in (q, k))
        pages = append(k, v, pages, layout)
        return self.attend(q, pages, layout, heads).flatten(1), pages


BY_MLX = Parts(rms_norm, rope, paged_attention)
BY_DEFINITION = Parts(rms_norm_reference, rope_reference, paged_attention_reference, mx.float32)
attention_mlx, attention_reference = BY_MLX.attention, BY_DEFINITION.attention
latent_attention_mlx = BY_MLX.latent_attention
latent_attention_reference = BY_DEFINITION.latent_attention


def _always(*_: object) -> bool:
    return True


@in_c("op_attention", ctypes.POINTER(Call), takes=_always)
def _attention_c(
    native: Function, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    qkv = ready(qkv)
    start = address(qkv) if qkv.shape[0] else 0
    k = start + 4 * heads.heads * heads.head_dim
    v = k + 4 * heads.kv_heads * heads.head_dim
    width = qkv.shape[1]
    return _run(native, (start, k, v), (width, width), (heads, table, pages, layout))


@in_c("op_attention", ctypes.POINTER(Call), takes=_always)
def _latent_attention_c(
    native: Function,
    q: mx.array,
    latent: mx.array,
    heads: Heads,
    table: Table,
    pages: Pages,
    layout: Layout,
) -> tuple[mx.array, Pages]:
    q, latent = ready(q), ready(latent)
    starts = (address(q), address(latent), None) if q.shape[0] else (0, 0, None)
    strides = (q.shape[1], latent.shape[1])
    return _run(native, starts, strides, (heads, table, pages, layout))


@lru_cache(maxsize=1024)
def _layer(heads: Heads) -> Layer:
    arrays = (heads.q_norm, heads.k_norm, heads.sinks)
    assert all(array is None or array.dtype == mx.float32 for array in arrays)
    return Layer(
        *(optional(array) for array in arrays),
        *(heads.heads, heads.kv_heads, heads.value_dim),
        *(heads.turned_from, heads.interleaved, heads.window or 0),
        *(heads.scale, heads.softcap or 0.0, heads.eps),
    )


@lru_cache(maxsize=1)  # the layers of a step ask for the same one after the other
def _step(table: Table, layout: Layout) -> Step:
    rows, pairs = layout.positions.shape[0], table.cos.shape[-1]
    assert ready(table.cos) is table.cos and ready(table.sin) is table.sin
    turns = (address(table.cos), address(table.sin)) if pairs else (None, None)
    arrays = (layout.positions, layout.slots, layout.owners, layout.tables)
    return Step(*turns, *(address(array) for array in arrays), rows, arrays[3].shape[1], pairs)


def _run(
    native: Function, starts: tuple[int, int, int | None], strides: tuple[int, int], place: Place
) -> tuple[mx.array, Pages]:
    heads, table, pages, layout = place
    rows = layout.positions.shape[0]
    if not rows:
        return mx.zeros((0, heads.heads * heads.value_dim)), pages
    out = output(rows, heads.heads * heads.value_dim)
    format, kv_heads = FORMATS[pages.format], heads.kv_heads
    call = Call(
        *starts,
        address(out),
        *strides,
        Pool(
            *map(optional, (pages.keys, pages.key_scales, pages.key_biases)),
            *(heads.head_dim, format, kv_heads, 1),
        ),
        Pool(
            *map(optional, (pages.values, pages.value_scales, pages.value_biases)),
            *(heads.value_dim, format, kv_heads, 0),
        ),
        _layer(heads),
        _step(table, layout),
    )
    native(call)
    return array(out), pages


def is_fused(heads: Heads, format: Format, dtype: mx.Dtype) -> bool:
    """Whether decoding rows go through Metal kernels here, so that tails or tokens may be used."""
    if device() is None or not covered(heads, format):
        return False
    return uses_custom(attention, _case(heads, format, dtype, (33, 7)))


Arguments = tuple[mx.array, Heads, Table, Pages, Layout]


def _case(heads: Heads, format: Format, dtype: mx.Dtype, contexts: Sequence[int]) -> Arguments:
    """Sequences of these lengths with one token each, over pages in turns."""
    rows, most = len(contexts), -(-max(contexts) // PAGE)
    pages = zeros(1 + rows * most, heads.kv_heads, heads.head_dim, heads.value_dim, format)
    positions = np.array(contexts, np.int32) - 1
    tables = 1 + np.arange(rows * most, dtype=np.int32).reshape(most, rows).T
    slots = tables[np.arange(rows), positions // PAGE] * PAGE + positions % PAGE
    owners = np.arange(rows, dtype=np.int32)
    arrays = [mx.array(part.astype(np.int32)) for part in (positions, slots, owners, tables)]
    layout = Layout(arrays[0], arrays[1], arrays[2], arrays[3], rows, ())
    table = rope_table(layout.positions, mx.ones((heads.head_dim // 2,)), 1.0)
    width = (heads.heads + heads.kv_heads) * heads.head_dim + heads.kv_heads * heads.value_dim
    return mx.random.normal((rows, width)).astype(dtype), heads, table, pages, layout


def _key(x: mx.array, *rest: object) -> Key:
    heads, table, pages, layout = rest[-4:]
    assert isinstance(heads, Heads) and isinstance(table, Table)
    assert isinstance(pages, Pages) and isinstance(layout, Layout)
    step = (bucket(layout.decodes), bucket(layout.tables.shape[1]), bool(layout.prefills))
    sizes = (heads.heads, heads.kv_heads, heads.head_dim, heads.value_dim, table.cos.shape[-1])
    parts = (heads.q_norm, heads.k_norm, heads.sinks, heads.softcap)
    kinds = "".join(str(int(part is not None)) for part in parts)
    return (*step, *sizes, heads.window or 0, kinds, pages.format, x.dtype)


def _edges(dtype: mx.Dtype) -> Iterator[Arguments]:
    """The first token, a page's last, the next one's first; a window."""
    for kv_heads, window in ((1, None), (2, 20)):
        heads = Heads(4, kv_heads, 64, 0.125, 64, window=window)
        yield _case(heads, FORMATS_OF[dtype], dtype, (1, 32, 33))


def _latent_edges(
    dtype: mx.Dtype,
) -> Iterator[tuple[mx.array, mx.array, Heads, Table, Pages, Layout]]:
    heads = Heads(16, 1, 576, 0.1, 512, turned_from=512)
    x, _, _, pages, layout = _case(heads, FORMATS_OF[dtype], dtype, (1, 32, 33))
    rows = x.shape[0]
    table = rope_table(layout.positions, mx.ones((32,)), 1.0)
    q, latent = (mx.random.normal((rows, n * 576)).astype(dtype) for n in (16, 1))
    yield q, latent, heads, table, replace(pages, values=None), layout


def _is_pending(*arguments: Any) -> bool:
    """Whether `is_fused` has chosen the kernels: others read no tails and keep no order."""
    pages, layout = arguments[-2:]
    return layout.tails is not None or pages.token is not None


# qkv: (rows, (heads + kv_heads) * head_dim + kv_heads * value_dim), queries first, to (rows,
# heads * value_dim). The C kernel writes the pages in place.
attention = Operation(
    "attention",
    attention_mlx,
    attention_reference,
    _attention_c,
    InMetal(
        (
            *("attention.metal", "attention_quantized.metal", "attention_merge.metal"),
            *("append_pages.metal", "gather_pages.metal"),
        ),
        attention_metal,
        _key,
        _edges,
        takes=lambda qkv, heads, table, pages, layout: covered(heads, pages.format),
        results=lambda result: (result[0],),
        decided=_is_pending,
    ),
)
# q: (rows, heads * head_dim), latent: (rows, head_dim), whose first value_dim are the value, to
# (rows, heads * value_dim). For pages without values and one key head; `k_norm`, if any, is of the
# new latents' values alone.
latent_attention = Operation(
    "latent_attention",
    latent_attention_mlx,
    latent_attention_reference,
    _latent_attention_c,
    InMetal(
        ("latent_attention.metal", "latent_merge.metal", "latent_append.metal"),
        latent_attention_metal,
        _key,
        _latent_edges,
        takes=lambda q, latent, heads, table, pages, layout: covers(q, heads, table, pages),
        results=lambda result: (result[0],),
        decided=_is_pending,
    ),
)
