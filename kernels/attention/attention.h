/* What a step's attention is told; see attention.c. */
#pragma once
#include <stdint.h>

enum { PAGE = 32 };
enum { GROUP = 32 };          /* values of a head that share a scale, where they are quantized */
enum { INT8 = 4, INT4 = 5 };  /* formats beside simd.h's F32, F16 and BF16 */

/* One of a layer's two pools; the same fields in the same order as in attention.py. */
typedef struct {
    void *codes; /* keys: (pages, kv_heads, width, PAGE), values: (pages, kv_heads, PAGE, width) */
    uint16_t *scales, *biases; /* binary16, the same with groups for width; null where not needed */
    int32_t width;  /* of a head; INT4 packs two into a byte */
    int32_t format; /* F32, F16, BF16, INT8 or INT4 */
    int32_t kv_heads;
    int32_t keys; /* 1 if it holds keys */
} Pool;

/* The same fields in the same order as in attention.py. */
typedef struct {
    const float *q, *k, *v; /* the first row's; without v, values are the first of the keys */
    float *out;             /* (rows, heads * value width) */
    int32_t q_stride, kv_stride;
    Pool keys, values;
    struct { /* a layer's */
        const float *q_norm, *k_norm; /* (key width,), or, without v, (value width,); or null */
        const float *sinks;           /* (heads,) or null */
        int32_t heads, kv_heads, value_width;
        int32_t turned_from, interleaved; /* the first dimension that turns; pairs are neighbours */
        int32_t window;                   /* 0: none */
        float scale, softcap, eps;        /* softcap 0: none */
    };
    struct { /* a step's */
        const float *cos, *sin;                    /* (rows, turned) */
        const int32_t *positions, *slots, *owners; /* (rows,) */
        const int32_t *tables;                     /* (sequences, table_width) */
        int32_t rows, table_width;
        int32_t turned; /* pairs */
    };
} Attention;

/* 0, or 1 where memory was short. */
int op_attention(const Attention *a);
