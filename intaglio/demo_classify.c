/* Classifies images: reads rows of 784 floats from a file, prints the most likely digit of each. */
#include <stdio.h>
#include <stdlib.h>

#include "MODEL.h"

int main(int argc, char **argv)
{
    static MODEL model;
    float image[784];
    float score[10];
    FILE *file;

    if (argc != 2 || (file = fopen(argv[1], "rb")) == NULL) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (MODEL_init(&model) != 0) {
        fprintf(stderr, "cannot load the weights\n");
        return EXIT_FAILURE;
    }
    while (fread(image, sizeof image, 1, file) == 1) {
        int best = 0;
        MODEL_run(&model, image, score);
        for (int k = 1; k < 10; k++) {
            if (score[k] > score[best]) {
                best = k;
            }
        }
        printf("%d\n", best);
    }
    fclose(file);
    return EXIT_SUCCESS;
}
