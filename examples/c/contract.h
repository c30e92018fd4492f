/* What an explaining file says of itself: the part of the contract that this program needs. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stddef.h>

#include "json.h"

typedef enum { EMIT_GRADIENT, EMIT_WEIGHTS, EMIT_HEATMAP } Emit;
typedef enum { SHOWN_AS_THEY_ARE, PROBABILITIES, LOGITS_SOFTMAX, LOGITS_SIGMOID } Scores;

typedef struct {
    Json document;      /* owns the texts */
    const char *output; /* the scored output's name */
    Scores scores;
    double output_scale, output_zero; /* of quantised scores: (value - zero) * scale */
    Emit emit;
    const Json *labels; /* a list of texts, or NULL */
    const char *input;  /* the picture input's name */
    int bytes;          /* its type: 1 for uint8, 0 for float32 */
    int channels_last;
    /* Preprocessing: (pixel * scale - mean) / std, channels in the tensor's order. */
    ptrdiff_t height, width, channels;
    int bgr;
    double scale, mean[3], std[3];
    ptrdiff_t shorter_side; /* of the resize before the crop; 0 to stretch */
    int filter;             /* as `onnxcam_resampling_taps` counts: nearest, bilinear, bicubic */
    int antialias;
} Contract;

/* 0, or 2 after a message. `contract_free` afterwards, either way. */
int contract_read(const char *text, Contract *contract);
void contract_free(Contract *contract);

#endif
