/* From what the model puts out to the map, and over the picture. */
#ifndef HEATMAP_H
#define HEATMAP_H

#include "contract.h"
#include "picture.h"
#include "prepare.h"
#include "runtime.h"

typedef int32_t Kernel(const float *activation, const float *gradient, float *raw, float *finished,
                       double *summary, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions,
                       ptrdiff_t targets);

typedef struct {
    const char *name;
    Kernel *kernel;
} Method;

typedef struct {
    float *values; /* malloc's, 0 to 1 */
    ptrdiff_t height, width;
} Map;

/* NULL if there is none of this name. "gradcam" is what pooled weights are enough for. */
const Method *find_method(const char *name);

/* The finished map of the first of `targets` classes; 0 where the model's outputs have no axis for
 * them. `outputs` are activation and gradient (or weights), or the finished heatmap. 0, or 2 after
 * a message. */
int make_map(Emit emit, const Method *method, const Tensor *outputs, size_t targets, Map *map);

/* Paint in place, with the alpha of 0.4 that the Python package has by default. */
int paint(const Map *map, const Rectangle *seen, Picture *picture);

#endif
