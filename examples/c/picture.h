/* Pictures as binary PPM files (P6, 8 bits), without comments. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    ptrdiff_t width, height;
    uint8_t *pixels; /* RGB, row by row; malloc's */
} Picture;

/* 0, or 2 after a message. A picture that could not be read has no pixels. */
int read_ppm(const char *name, Picture *picture);

/* Whole or not at all: written beside `name`, then renamed. */
int write_ppm(const char *name, const Picture *picture);

#endif
