/* Changes at single places of a step's logits. */
#include "export.h"

#include <stddef.h>
#include <stdint.h>

/* At each (row, id): the bias is added, the sum divided by the penalty where it is positive and
   multiplied by it where it is not, and `less` taken off. */
EXPORT int op_edit(float *logits, int rows, int vocabulary, int entries, const int32_t *row,
                   const int32_t *id, const float *bias, const float *penalty, const float *less) {
    for (int i = 0; i < entries; i++) {
        if (row[i] < 0 || row[i] >= rows || id[i] < 0 || id[i] >= vocabulary)
            continue;
        float *place = logits + (ptrdiff_t)row[i] * vocabulary + id[i];
        const float sum = *place + bias[i];
        *place = (sum > 0 ? sum / penalty[i] : sum * penalty[i]) - less[i];
    }
    return 0;
}
