/* Paint a heatmap over a picture:
 *
 *     overlay PICTURE.ppm MAP.f32 WIDTHxHEIGHT OUT.ppm
 *
 * MAP.f32 is the map row by row as raw float32, values 0 to 1; "-" for one that is made up. Link
 * with libonnxcam; `onnxcam native build -o DIR` writes it and onnxcam.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "onnxcam.h"
#include "picture.h"

const char *const program_name = "overlay";

static int read_map(const char *name, float *map, size_t count, ptrdiff_t width) {
    if (strcmp(name, "-") == 0) {
        for (size_t i = 0; i < count; ++i) map[i] = (float)(i % (size_t)width) / (float)width;
        return 0;
    }
    FILE *file = fopen(name, "rb");
    if (!file) return fail("map '%s': cannot be opened", name);
    size_t found = fread(map, sizeof *map, count, file);
    int longer = fgetc(file) != EOF;
    fclose(file);
    return found != count || longer ? fail("map '%s': not of the size that was given", name) : 0;
}

/* Paint in place, with the alpha of 0.4 that the Python package has by default. */
static int paint(const float *map, ptrdiff_t map_height, ptrdiff_t map_width, Picture *picture) {
    ptrdiff_t width = picture->width, height = picture->height, stride = 3 * width;
    ptrdiff_t size = onnxcam_overlay_jet_scratch(map_height, map_width, height, width, 3);
    if (size < 0) return fail("overlay: %s", onnxcam_error_text((int32_t)-size));
    void *scratch = malloc((size_t)size);
    if (!scratch) return fail("out of memory");
    int32_t code = onnxcam_overlay_jet(
        map, 0.0, 0.0, (double)width, (double)height, 0.0, picture->pixels, stride, 0.4, 0, 0,
        height, picture->pixels, stride, scratch, size, map_height, map_width, height, width, 3);
    free(scratch);
    return code ? fail("overlay: %s", onnxcam_error_text(code)) : 0;
}

int main(int count, char **arguments) {
    long width, height;
    char end;
    if (count != 5 || sscanf(arguments[3], "%ldx%ld%c", &width, &height, &end) != 2)
        return fail("expected PICTURE.ppm MAP.f32|- WIDTHxHEIGHT OUT.ppm");
    if (width < 1 || height < 1 || width > 4096 || height > 4096)
        return fail("%s: expected sizes of 1 to 4096", arguments[3]);
    Picture picture = {0, 0, NULL};
    size_t values = (size_t)width * (size_t)height;
    float *map = malloc(values * sizeof *map);
    int wrong = map ? read_ppm(arguments[1], &picture) : fail("out of memory");
    if (!wrong) wrong = read_map(arguments[2], map, values, width);
    if (!wrong) wrong = paint(map, height, width, &picture);
    if (!wrong) wrong = write_ppm(arguments[4], &picture);
    free(map);
    free(picture.pixels);
    return wrong;
}
