/* From a picture to the model's input, as the contract says: the Python engine's bytes. */
#ifndef PREPARE_H
#define PREPARE_H

#include "contract.h"
#include "picture.h"

/* The part of the picture that the model sees, in its pixels. */
typedef struct {
    double left, top, right, bottom;
} Rectangle;

/* `tensor`, malloc's: float32 or uint8, [C, h, w] or [h, w, C]. 0, or 2 after a message. */
int prepare(const Contract *contract, const Picture *picture, void **tensor, Rectangle *seen);

#endif
