#include "picture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

int read_ppm(const char *name, Picture *picture) {
    picture->pixels = NULL;
    FILE *file = fopen(name, "rb");
    if (!file) return fail("picture '%s': %s", name, strerror(errno));
    long width, height, most;
    int good = fscanf(file, "P6 %ld %ld %ld", &width, &height, &most) == 3 && most == 255 &&
               width >= 1 && height >= 1 && width <= 32768 && height <= 32768 && fgetc(file) != EOF;
    if (good) {
        size_t size = 3 * (size_t)width * (size_t)height;
        picture->width = width;
        picture->height = height;
        picture->pixels = malloc(size);
        good = picture->pixels && fread(picture->pixels, 1, size, file) == size;
    }
    fclose(file);
    if (good) return 0;
    free(picture->pixels);
    picture->pixels = NULL;
    return fail("picture '%s': expected a whole PPM (P6, 8 bits, sides up to 32768)", name);
}

int write_ppm(const char *name, const Picture *picture) {
    char *beside = malloc(strlen(name) + sizeof ".part");
    if (!beside) return fail("out of memory");
    strcat(strcpy(beside, name), ".part");
    FILE *file = fopen(beside, "wb");
    int good = file != NULL;
    if (file) {
        size_t size = 3 * (size_t)picture->width * (size_t)picture->height;
        good = fprintf(file, "P6\n%td %td\n255\n", picture->width, picture->height) > 0;
        good = fwrite(picture->pixels, 1, size, file) == size && good;
        good = fclose(file) == 0 && good;
        good = good && rename(beside, name) == 0;
        if (!good) remove(beside);
    }
    free(beside);
    return good ? 0 : fail("'%s': cannot be written", name);
}
