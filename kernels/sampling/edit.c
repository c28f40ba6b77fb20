/* Changes at single places of a row of a step's logits. */
#include "export.h"

#include <stddef.h>
#include <stdint.h>

/* At each id, from the source's logit: the bias is added, the sum divided by the penalty where it
   is positive and multiplied by it where it is not, and `less` taken off. */
EXPORT int op_edit(float *logits, const float *source, int row, int vocabulary, int entries,
                   const int32_t *id, const float *changes) {
    const ptrdiff_t start = (ptrdiff_t)row * vocabulary;
    for (int i = 0; i < entries; i++, changes += 3) {
        if (id[i] < 0 || id[i] >= vocabulary)
            continue;
        const float sum = source[start + id[i]] + changes[0];
        const float over = sum / changes[1], times = sum * changes[1]; /* both: no branch to guess */
        logits[start + id[i]] = (sum > 0 ? over : times) - changes[2];
    }
    return 0;
}
