/* What the driver's cases share: exact buffers, numbers from a seed, comparison with a bound.

   Buffers come from malloc at their exact size, so that a sanitizer sees a kernel that reads or
   writes one element too far. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Evenly spread in -1 .. 1; the same numbers on every machine. */
float noise(void);
uint32_t bits32(void);
float *noises(size_t count, float scale);
uint16_t to_bf16(float value);
uint16_t to_f16(float value);

/* The ids of values, largest first, equal ones by id; the caller frees them. */
int32_t *ranked(const float *values, int count);

/* Prints the case and ends the program with 1 unless |found - expected| <= bound * (1 + |expected|)
   everywhere. */
void compare(const char *name, const float *found, const float *expected, size_t count, float bound);
