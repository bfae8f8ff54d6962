/* Trains the exported PyTorch module: which arm of two spirals is a point on? No Python, no PyTorch. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "spiral.h"

enum { BATCH = SPIRAL_X_SIZE / 2, STEPS = 3000 };

/* A number in [0, 1). */
static float uniform(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 16777216.0f;
}

static void draw(float *x, int64_t *target) {
    for (int i = 0; i < BATCH; i++) {
        const float radius = uniform(), arm = i % 2 ? 3.14159265f : 0.0f;
        const float angle = 4 * radius + arm;
        x[2 * i] = radius * cosf(angle);
        x[2 * i + 1] = radius * sinf(angle);
        target[i] = i % 2;
    }
}

int main(void) {
    static float x[SPIRAL_X_SIZE];
    static int64_t target[BATCH];
    float loss = 0, mean = 0;
    spiral model;

    if (spiral_init(&model) != 0) {
        return EXIT_FAILURE;
    }
    for (int step = 1; step <= STEPS; step++) {
        const double learning_rate = step < STEPS / 2 ? 0.02 : 0.005;
        draw(x, target);
        spiral_step(&model, x, target, &learning_rate, &loss);
        mean += loss / 500;
        if (step % 500 == 0) {
            printf("step %4d  loss %.3f\n", step, (double)mean);
            mean = step < STEPS ? 0 : mean;
        }
    }
    spiral_free(&model);
    return mean < 0.2f ? EXIT_SUCCESS : EXIT_FAILURE;
}
