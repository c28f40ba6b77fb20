/* The root mean square norm beside a plain loop. */
#include "norm.h"

int op_rms_norm(const float *x, const void *weight, int weight_type, int rows, int width, float eps,
                float *out);

void check_rms_norm(void) {
    for (int i = 0; i < WIDTHS; i++) {
        NormCase c = norm_case(WIDTH[i] == 2049 ? 40 : 3, WIDTH[i]);
        op_rms_norm(c.x, c.half, 2, c.rows, c.width, 1e-5f, c.out);
        check_norm("rms_norm", c, 0);
    }
}
