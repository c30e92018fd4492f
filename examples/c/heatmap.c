#include "heatmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "onnxcam.h"

static const Method methods[] = {
    {"gradcam", onnxcam_gradcam},
    {"gradcam++", onnxcam_gradcam_plusplus},
    {"xgradcam", onnxcam_xgradcam},
    {"layercam", onnxcam_layercam},
    {"hirescam", onnxcam_hirescam},
    {"gradcam-elementwise", onnxcam_gradcam_elementwise},
};

const Method *find_method(const char *name) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; ++i)
        if (strcmp(methods[i].name, name) == 0) return &methods[i];
    return NULL;
}

int make_map(Emit emit, const Method *method, const Tensor *outputs, size_t targets, Map *map) {
    const Tensor *first = &outputs[0], *second = &outputs[1];
    int heatmap = emit == EMIT_HEATMAP;
    if (first->rank != (heatmap ? 3 + (targets > 0) : 4) || elements(first, 0) == 0)
        return fail("the layer's maps are not two-dimensional");
    map->height = (ptrdiff_t)first->shape[first->rank - 2];
    map->width = (ptrdiff_t)first->shape[first->rank - 1];
    ptrdiff_t positions = map->height * map->width;
    ptrdiff_t channels = heatmap ? 1 : (ptrdiff_t)first->shape[1];
    size_t slopes = (size_t)channels * (emit == EMIT_WEIGHTS ? 1 : (size_t)positions);
    if (targets == 0) targets = 1;
    if (!heatmap && elements(second, 0) != targets * slopes)
        return fail("the outputs' shapes do not fit together");
    size_t values = targets * (size_t)positions;
    double *summary = malloc(4 * targets * sizeof *summary);
    float *raw = malloc(values * sizeof *raw);
    map->values = malloc(values * sizeof *map->values);
    int32_t code = 0;
    if (!summary || !raw || !map->values) {
        free(summary);
        free(raw);
        return fail("out of memory");
    }
    if (heatmap) {
        memcpy(map->values, first->data, values * sizeof *map->values);
        code = onnxcam_summarise(map->values, summary, 1, positions);
        if (summary[3] > 0.0) memset(map->values, 0, values * sizeof *map->values);
    } else {
        code = (emit == EMIT_WEIGHTS ? onnxcam_weighted_sum : method->kernel)(
            first->data, second->data, raw, map->values, summary, 1, channels, positions,
            (ptrdiff_t)targets);
    }
    if (!code && summary[3] > 0.0)
        fprintf(stderr, "%s: the map is empty: it has values that are not finite\n", program_name);
    else if (!code && summary[2] == 0.0)
        fprintf(stderr, "%s: the map is empty: no value is positive\n", program_name);
    free(summary);
    free(raw);
    return code ? fail("map: %s", onnxcam_error_text(code)) : 0;
}

int paint(const Map *map, const Rectangle *seen, Picture *picture) {
    ptrdiff_t h = map->height, w = map->width;
    ptrdiff_t width = picture->width, height = picture->height, stride = 3 * width;
    ptrdiff_t size = onnxcam_overlay_jet_scratch(h, w, height, width, 3);
    if (size < 0) return fail("overlay: %s", onnxcam_error_text((int32_t)-size));
    void *scratch = malloc((size_t)size);
    if (!scratch) return fail("out of memory");
    int32_t code = onnxcam_overlay_jet(
        map->values, seen->left, seen->top, seen->right, seen->bottom, 0.0, picture->pixels, stride,
        0.4, 0, 0, height, picture->pixels, stride, scratch, size, h, w, height, width, 3);
    free(scratch);
    return code ? fail("overlay: %s", onnxcam_error_text(code)) : 0;
}
