/* Allocation, sorting and exit, as the C library declares them. */
#ifndef INTAGLIO_STDLIB_H
#define INTAGLIO_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
void free(void *pointer);
void abort(void);
void exit(int status);
int abs(int value);
long labs(long value);
long long llabs(long long value);
void qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *));

#endif
