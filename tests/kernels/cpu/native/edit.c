/* Edits of logits beside the same by hand. */
#include "check.h"

int op_edit(float *logits, int rows, int vocabulary, int entries, const int32_t *row,
            const int32_t *id, const float *bias, const float *penalty, const float *less);

void check_edit(void) {
    float *logits = noises(2 * 9, 1), *expected = malloc(2 * 9 * 4);
    memcpy(expected, logits, 2 * 9 * 4);
    const int32_t row[] = {0, 1, 2, 0, -1}, id[] = {8, 0, 0, 9, 0};
    const float bias[] = {5, -5, 1, 1, 1}, penalty[] = {2, 2, 2, 2, 2}, less[] = {1, 0, 1, 1, 1};
    op_edit(logits, 2, 9, 5, row, id, bias, penalty, less);
    expected[8] = (expected[8] + 5) / 2 - 1;
    expected[9] = (expected[9] - 5) * 2;
    compare("edit", logits, expected, 2 * 9, 0);
    free(logits);
    free(expected);
}
