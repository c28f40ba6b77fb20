/* Keys and values as the pages hold them: written a token at a time, read a page at a time.

   A page of keys lies by dimensions, one of values by tokens: so the lanes of a score are tokens,
   those of a result are dimensions, and neither is ever summed over lanes. */
#pragma once
#include "attention.h"
#include "simd.h"

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int most(int a, int b) { return a > b ? a : b; }
INLINE int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

/* What a token's or a dimension's row of codes and of scales has; INT4's last group may be short. */
INLINE int stored_of(const Pool *p) { return p->format == INT4 ? p->width / 2 : p->width; }
INLINE int groups_of(const Pool *p) { return (p->width + GROUP - 1) / GROUP; }
INLINE int item_of(const Pool *p) { return p->format == F32 ? 4 : p->format > BF16 ? 1 : 2; }

INLINE int64_t page_items(const Pool *p) { return (int64_t)stored_of(p) * PAGE; }
INLINE char *page_codes(const Pool *p, int64_t page, int head) {
    return (char *)p->codes + (page * p->kv_heads + head) * page_items(p) * item_of(p);
}
INLINE int64_t page_scales(const Pool *p, int64_t page, int head) {
    return (page * p->kv_heads + head) * groups_of(p) * PAGE;
}

/* To the nearest whole number, even on a tie, for |x| < 2^22. */
INLINE float nearest(float x) { return x + 12582912.0f - 12582912.0f; }

/* Binary16 ends at 65504: what is beyond is held there, infinities and NaN become NaN. */
INLINE void store_half(uint16_t *p, vf v) {
    const vf most = vf_set(65504.0f);
    vf_store16(p, vf_max(vf_min(v, most), -most) + (v - v));
}

INLINE uint16_t float_to_half(float x) {
    uint16_t lanes[LANES];
    store_half(lanes, vf_set(x));
    return lanes[0];
}

/* Codes of n values, symmetric about 0; infinities and NaN make the scale NaN. */
static uint16_t encode8(const float *x, int n, int8_t *codes) {
    float top = 0, broken = 0;
    for (int i = 0; i < n; i++) {
        const float size = x[i] < 0 ? -x[i] : x[i];
        top = size > top ? size : top;
        broken += x[i] - x[i];
    }
    const uint16_t scale = float_to_half(top / 127 + broken);
    const float stored = half_to_float(scale), per = stored > 0 && !broken ? 1 / stored : 0;
    for (int i = 0; i < n; i++) {
        float code = per > 0 ? nearest(x[i] * per) : 0;
        codes[i] = (int8_t)(code > 127 ? 127 : code < -127 ? -127 : code);
    }
    return scale;
}

/* Byte i holds value i in its low half and value i + n / 2 in its high one: so that a row of bytes
   becomes two rows of values, of keys and of values alike. */
static uint16_t encode4(const float *x, int n, uint8_t *codes, uint16_t *bias) {
    float low = x[0], high = x[0], broken = 0;
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        broken += x[i] - x[i];
    }
    *bias = float_to_half(low);
    const float start = half_to_float(*bias);
    const uint16_t scale = float_to_half((high - start) / 15 + broken);
    const float stored = half_to_float(scale), per = stored > 0 ? 1 / stored : 0;
    uint8_t code[GROUP] = {0};
    for (int i = 0; i < n; i++) {
        const float step = per > 0 ? nearest((x[i] - start) * per) : 0;
        code[i] = (uint8_t)(step > 15 ? 15 : step > 0 ? step : 0);
    }
    for (int i = 0; i < n / 2; i++)
        codes[i] = (uint8_t)(code[i] | code[i + n / 2] << 4);
    return scale;
}

static void encode16(const float *x, int format, uint16_t *out) {
    for (int i = 0; i < GROUP; i += LANES) {
        if (format == F16) {
            store_half(out + i, vf_load(x + i));
            continue;
        }
        for (int j = i; j < i + LANES; j++) {
            uint32_t bits;
            memcpy(&bits, x + j, sizeof bits);
            const int nan = (bits & 0x7fffffff) > 0x7f800000;
            out[j] = (uint16_t)(nan ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        }
    }
}

/* n items, `step` items apart. */
static void scatter(void *to, ptrdiff_t step, const void *from, int n, int size) {
    if (size == 1)
        for (int i = 0; i < n; i++)
            ((uint8_t *)to)[i * step] = ((const uint8_t *)from)[i];
    else if (size == 2)
        for (int i = 0; i < n; i++)
            ((uint16_t *)to)[i * step] = ((const uint16_t *)from)[i];
    else
        for (int i = 0; i < n; i++)
            ((float *)to)[i * step] = ((const float *)from)[i];
}

/* Stores a head of a token; x is padded to whole groups. */
static void put(const Pool *p, int64_t slot, int head, const float *x) {
    const int64_t page = slot / PAGE;
    const int offset = (int)(slot % PAGE), item = item_of(p), groups = groups_of(p);
    const ptrdiff_t step = p->keys ? PAGE : 1;
    char *codes = page_codes(p, page, head) + (p->keys ? offset : offset * stored_of(p)) * item;
    const int64_t scales = page_scales(p, page, head) + (p->keys ? offset : offset * groups);
    for (int g = 0; g < groups; g++) {
        const int n = least(GROUP, p->width - g * GROUP), halves = p->format == INT4 ? 2 : 1;
        const float *from = x + g * GROUP;
        uint16_t made[GROUP];
        const void *items = made;
        if (p->format == F32)
            items = from;
        else if (p->format == INT8)
            p->scales[scales + g * step] = encode8(from, n, (int8_t *)made);
        else if (p->format == INT4)
            p->scales[scales + g * step] =
                encode4(from, n, (uint8_t *)made, &p->biases[scales + g * step]);
        else
            encode16(from, p->format, made);
        scatter(codes + g * (GROUP / halves) * step * item, step, items, n / halves, item);
    }
}

INLINE vi vi_load8(const void *p) {
    int8_t bytes[LANES];
    int32_t wide[LANES] ALIGNED;
    memcpy(bytes, p, LANES);
    for (int i = 0; i < LANES; i++)
        wide[i] = bytes[i];
    return vi_load(wide);
}

/* A page of keys in float32: out[width][PAGE]. The page `next` is asked of memory meanwhile, line
   by line: all its lines at once would be no faster than none. */
static void widen_keys(const Pool *p, int64_t page, int64_t next, int head, float *restrict out) {
    const char *codes = page_codes(p, page, head);
    const ptrdiff_t ahead = page_codes(p, next, head) - codes;
    if (p->format <= BF16) {
        for (int i = 0; i < p->width * PAGE; i += LANES) {
            __builtin_prefetch(codes + ahead + i * item_of(p));
            vf_store(out + i, vf_load_as(codes, i, p->format));
        }
        return;
    }
    const int64_t scales = page_scales(p, page, head);
    for (int g = 0; g < groups_of(p); g++) {
        const int n = least(GROUP, p->width - g * GROUP);
        float scale[PAGE] ALIGNED, bias[PAGE] ALIGNED;
        for (int t = 0; t < PAGE; t += LANES)
            vf_store(scale + t, vf_load16(p->scales + scales + g * PAGE + t));
        if (p->format == INT8) {
            for (int i = 0; i < n; i++, codes += PAGE, out += PAGE) {
                __builtin_prefetch(codes + ahead);
                for (int t = 0; t < PAGE; t += LANES)
                    vf_store(out + t, vf_of(vi_load8(codes + t)) * vf_load(scale + t));
            }
            continue;
        }
        for (int t = 0; t < PAGE; t += LANES)
            vf_store(bias + t, vf_load16(p->biases + scales + g * PAGE + t));
        for (int i = 0; i < n / 2; i++, codes += PAGE) {
            __builtin_prefetch(codes + ahead);
            for (int t = 0; t < PAGE; t += LANES) {
                const vi pair = vi_load8(codes + t);
                const vf low = vf_of(pair & 15), high = vf_of(vi_shift(pair, 4) & 15);
                const vf by = vf_load(scale + t), from = vf_load(bias + t);
                vf_store(out + i * PAGE + t, low * by + from);
                vf_store(out + (i + n / 2) * PAGE + t, high * by + from);
            }
        }
        out += n * PAGE;
    }
}

/* A group of n quantized values; returns where the next group's codes begin. */
INLINE const char *widen_group(const char *codes, int n, int format, float scale, float bias,
                               float *restrict out) {
    int i = 0;
    if (format == INT8) {
        for (; i + LANES <= n; i += LANES)
            vf_store(out + i, vf_of(vi_load8(codes + i)) * scale);
        for (; i < n; i++)
            out[i] = (float)(int8_t)codes[i] * scale;
        return codes + n;
    }
    for (; i + LANES <= n / 2; i += LANES) {
        const vi pair = vi_load8(codes + i);
        vf_store(out + i, vf_of(pair & 15) * scale + bias);
        vf_store(out + i + n / 2, vf_of(vi_shift(pair, 4) & 15) * scale + bias);
    }
    for (; i < n / 2; i++) {
        out[i] = (float)(codes[i] & 15) * scale + bias;
        out[i + n / 2] = (float)((uint8_t)codes[i] >> 4) * scale + bias;
    }
    return codes + n / 2;
}

/* A page of values in float32: out[PAGE][padded], zeros beyond the width. */
static void widen_codes(const Pool *p, int64_t page, int64_t next, int head, int padded,
                        float *restrict out) {
    const char *codes = page_codes(p, page, head);
    const ptrdiff_t ahead = page_codes(p, next, head) - codes;
    const int64_t scales = page_scales(p, page, head);
    const int groups = groups_of(p);
    float scale[LANES] ALIGNED, bias[LANES] ALIGNED = {0};
    for (int i = 0, t = 0; t < PAGE; t++, out += padded) {
        for (int g = 0; g < groups; g++, i++) {
            if (i % LANES == 0) { /* a page has a multiple of LANES of them */
                vf_store(scale, vf_load16(p->scales + scales + i));
                if (p->biases)
                    vf_store(bias, vf_load16(p->biases + scales + i));
            }
            const int n = least(GROUP, p->width - g * GROUP);
            __builtin_prefetch(codes + ahead);
            codes = widen_group(codes, n, p->format, scale[i % LANES], bias[i % LANES],
                                out + g * GROUP);
        }
        for (int at = p->width; at < padded; at++)
            out[at] = 0;
    }
}

static void widen_values(const Pool *p, int64_t page, int64_t next, int head, int padded,
                         float *restrict out) {
    if (p->format > BF16) {
        widen_codes(p, page, next, head, padded, out);
        return;
    }
    const char *codes = page_codes(p, page, head);
    const ptrdiff_t ahead = page_codes(p, next, head) - codes;
    for (int t = 0; t < PAGE; t++, out += padded) {
        int at = 0;
        for (; at + LANES <= p->width; at += LANES) {
            __builtin_prefetch(codes + ahead + (t * p->width + at) * item_of(p));
            vf_store(out + at, vf_load_as(codes, t * p->width + at, p->format));
        }
        for (; at < p->width; at++)
            out[at] = load_as(codes, t * p->width + at, p->format);
        for (; at < padded; at++)
            out[at] = 0;
    }
}

/* The first `width` dimensions of widened keys, by tokens: out[PAGE][padded]. */
static void values_of_keys(const float *keys, int width, int padded, float *restrict out) {
    for (int d = 0; d < padded; d += LANES)
        for (int t = 0; t < PAGE; t += 4) {
            vi words[4];
            if (d + LANES <= width)
                transpose4((const char *)(keys + d * PAGE + t), PAGE * 4, words);
            else
                for (int i = 0; i < 4; i++)
                    for (int j = 0; j < LANES; j++)
                        memcpy((char *)&words[i] + 4 * j,
                               d + j < width ? &keys[(d + j) * PAGE + t + i] : &(float){0}, 4);
            for (int i = 0; i < 4; i++)
                vi_store(out + (t + i) * padded + d, words[i]);
        }
}
