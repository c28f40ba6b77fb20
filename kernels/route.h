/* The counting sort that a mixture of experts shares with its router. */
#pragma once
#include <stdint.h>

/* order: (pairs,), pair numbers by expert, within one as they were; offsets: (experts + 1,). 1 where
   memory is short. */
int op_sort_by_expert(const int32_t *indices, int pairs, int experts, int32_t *order,
                      int32_t *offsets);
