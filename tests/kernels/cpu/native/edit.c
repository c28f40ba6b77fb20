/* Edits of logits beside the same by hand. */
#include "check.h"

int op_edit(float *logits, const float *source, int row, int vocabulary, int entries,
            const int32_t *id, const float *changes);

void check_edit(void) {
    float *logits = noises(2 * 9, 1), *source = malloc(2 * 9 * 4), *expected = malloc(2 * 9 * 4);
    memcpy(source, logits, 2 * 9 * 4);
    memcpy(expected, logits, 2 * 9 * 4);
    const int32_t lasting[] = {-1, 0, 3, 9}, latest[] = {3};
    const float changes[] = {1, 2, 1, -5, 2, 0, 7, 1, 7, 1, 2, 1}, instead[] = {5, 2, 1};
    op_edit(logits, source, 1, 9, 4, lasting, changes);
    op_edit(logits, source, 1, 9, 1, latest, instead);
    const float sums[] = {source[9] - 5, source[12] + 5};
    expected[9] = sums[0] > 0 ? sums[0] / 2 : sums[0] * 2;
    expected[12] = (sums[1] > 0 ? sums[1] / 2 : sums[1] * 2) - 1;
    compare("edit", logits, expected, 2 * 9, 0);
    free(logits);
    free(source);
    free(expected);
}
