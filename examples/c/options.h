/* What the command line says. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdint.h>

#include "heatmap.h"

typedef struct {
    const char *model, *picture, *out, *library, *provider; /* out and provider may be NULL */
    int64_t target;
    const Method *method;
    int threads, plain;
} Options;

/* 0, or 2 after a message. */
int read_options(int count, char **words, Options *options);

#endif
