/* Trains the exported classifier: is a point of the square inside of the circle? No Python, no runtime. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "circle.h"

enum { BATCH = CIRCLE_X_SIZE / 2, STEPS = 3000 };

/* A number in [-1, 1). */
static float uniform(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static void draw(float *x, int64_t *y) {
    for (int i = 0; i < BATCH; i++) {
        x[2 * i] = uniform();
        x[2 * i + 1] = uniform();
        y[i] = x[2 * i] * x[2 * i] + x[2 * i + 1] * x[2 * i + 1] < 0.64f;
    }
}

int main(void) {
    static float x[CIRCLE_X_SIZE];
    static int64_t y[BATCH];
    const double learning_rate = 0.5;
    float loss = 0, mean = 0;
    circle model;

    if (circle_init(&model) != 0) {
        return EXIT_FAILURE;
    }
    for (int step = 1; step <= STEPS; step++) {
        draw(x, y);
        circle_step(&model, x, y, &learning_rate, &loss);
        mean += loss / 500;
        if (step % 500 == 0) {
            printf("step %4d  loss %.3f\n", step, (double)mean);
            mean = step < STEPS ? 0 : mean;
        }
    }
    for (int k = 0; k < CIRCLE_STATE_COUNT; k++) {
        const enum circle_state which = (enum circle_state)k;
        printf("%s: %zu bytes\n", circle_state_name(which), circle_state_bytes(which));
    }
    circle_free(&model);
    return mean < 0.2f ? EXIT_SUCCESS : EXIT_FAILURE;
}
