#include "prepare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "onnxcam.h"

#define MOST_RESIZED_SIDE 1e9 /* what the library takes */
#define MOST_RESIZED_PIXELS (1 << 27)

typedef struct {
    ptrdiff_t width, height, channels; /* 1 or 3 */
    uint8_t *pixels;
} Pixels;

/* All of the resized picture, and where in it the part that the model sees begins. */
typedef struct {
    ptrdiff_t height, width, top, left;
} Window;

typedef struct {
    int64_t *starts;
    int32_t *weights;
    ptrdiff_t count;
} Taps;

static int failed(int32_t code) {
    return code ? fail("preprocessing: %s", onnxcam_error_text(code)) : 0;
}

static int too_narrow(const Pixels *picture, const Contract *contract) {
    return fail("picture of %tdx%td pixels: too narrow to scale its shorter side to %td",
                picture->width, picture->height, contract->shorter_side);
}

/* As torchvision's Resize and CenterCrop: the longer side truncated, the offset rounded to even. */
static int find_window(const Contract *contract, const Pixels *picture, Window *window) {
    *window = (Window){contract->height, contract->width, 0, 0};
    if (contract->shorter_side == 0) return 0;
    int upright = picture->height > picture->width;
    ptrdiff_t longest = upright ? picture->height : picture->width;
    ptrdiff_t shortest = upright ? picture->width : picture->height;
    double longer = floor((double)(contract->shorter_side * longest) / (double)shortest);
    if (longer > MOST_RESIZED_SIDE) return too_narrow(picture, contract);
    window->height = upright ? (ptrdiff_t)longer : contract->shorter_side;
    window->width = upright ? contract->shorter_side : (ptrdiff_t)longer;
    window->top = (ptrdiff_t)rint((double)(window->height - contract->height) / 2.0);
    window->left = (ptrdiff_t)rint((double)(window->width - contract->width) / 2.0);
    return 0;
}

static Rectangle rectangle_of(const Contract *contract, const Pixels *picture, const Window *w) {
    double across = (double)w->width, down = (double)w->height;
    return (Rectangle){
        (double)(w->left * picture->width) / across,
        (double)(w->top * picture->height) / down,
        (double)((w->left + contract->width) * picture->width) / across,
        (double)((w->top + contract->height) * picture->height) / down,
    };
}

static int allocate(Pixels *pixels, ptrdiff_t width, ptrdiff_t height, ptrdiff_t channels) {
    *pixels = (Pixels){width, height, channels, calloc((size_t)(width * height), (size_t)channels)};
    return pixels->pixels ? 0 : fail("out of memory");
}

static void replace(Pixels *old, const Pixels *made) {
    free(old->pixels);
    *old = *made;
}

/* Copy a part of a picture, as large as `to`. */
static void copy_part(const Pixels *from, ptrdiff_t left, ptrdiff_t top, Pixels *to) {
    ptrdiff_t width = from->width - left < to->width ? from->width - left : to->width;
    for (ptrdiff_t y = 0; y < to->height; ++y)
        memcpy(to->pixels + y * to->width * to->channels,
               from->pixels + ((top + y) * from->width + left) * from->channels,
               (size_t)(width * to->channels));
}

static int make_gray(Pixels *picture) {
    Pixels gray;
    int wrong = allocate(&gray, picture->width, picture->height, 1);
    if (!wrong)
        wrong = failed(onnxcam_gray_of(picture->pixels, 0, gray.pixels, gray.height, gray.width));
    replace(picture, &gray);
    return wrong;
}

/* The whole picture is resized, then cropped. */
static int without_antialias(const Contract *contract, const Window *w, Pixels *picture) {
    Pixels made;
    if (picture->width != w->width || picture->height != w->height) {
        ptrdiff_t most = picture->width * picture->height;
        if (w->width * w->height > (most > MOST_RESIZED_PIXELS ? most : MOST_RESIZED_PIXELS))
            return too_narrow(picture, contract);
        if (allocate(&made, w->width, w->height, picture->channels)) return 2;
        int32_t code = (contract->filter == 1 ? onnxcam_resize_picture_bilinear
                                              : onnxcam_resize_picture_bicubic)(
            picture->pixels, made.pixels, picture->height, picture->width, picture->channels,
            made.height, made.width);
        replace(picture, &made);
        if (code) return failed(code);
    }
    if (allocate(&made, contract->width, contract->height, picture->channels)) return 2;
    copy_part(picture, w->left, w->top, &made);
    replace(picture, &made);
    return 0;
}

/* What of a row or column goes into each of `count` results, `first` the first one's number. */
static int find_taps(const Contract *contract, ptrdiff_t size, ptrdiff_t resized, ptrdiff_t first,
                     ptrdiff_t count, ptrdiff_t channels, Taps *taps) {
    int64_t width;
    if (failed(onnxcam_resampling_width(size, resized, first, count, contract->filter, &width)))
        return 2;
    taps->count = (ptrdiff_t)(channels == 3 ? (width + 7) / 8 * 8 : width);
    taps->starts = malloc((size_t)count * sizeof *taps->starts);
    taps->weights = malloc((size_t)(count * taps->count * channels) * sizeof *taps->weights);
    if (!taps->starts || !taps->weights) return fail("out of memory");
    return failed(onnxcam_resampling_taps(size, resized, first, contract->filter, taps->starts,
                                          taps->weights, count, taps->count, channels));
}

/* The value of every byte in every channel: float32 or uint8 [C, 256]. */
static void fill_table(const Contract *contract, void *table) {
    float *floats = table;
    uint8_t *bytes = table;
    for (ptrdiff_t i = 0; i < contract->channels * 256; ++i) {
        ptrdiff_t c = i / 256;
        double pixel = (double)(i % 256);
        double value = (pixel * contract->scale - contract->mean[c]) / contract->std[c];
        if (contract->bytes) bytes[i] = (uint8_t)fmin(fmax(rint(value), 0.0), 255.0);
        else floats[i] = (float)value;
    }
}

static int resample(const Contract *contract, const Pixels *picture, const Taps *columns,
                    const Taps *rows, void *tensor) {
    ptrdiff_t c = picture->channels, row = c * picture->width, taps = c * columns->count;
    float table[3 * 256];
    fill_table(contract, table);
    /* The work space is the same for both types. */
    ptrdiff_t size = onnxcam_picture_to_float32_scratch(
        picture->height, row, contract->width, taps, contract->height, rows->count, c);
    if (size < 0) return failed((int32_t)-size);
    void *scratch = malloc((size_t)size);
    if (!scratch) return fail("out of memory");
    int32_t code =
        contract->bytes
            ? onnxcam_picture_to_uint8(picture->pixels, columns->starts, columns->weights,
                                       rows->starts, rows->weights, (uint8_t *)table,
                                       contract->channels_last, contract->bgr, tensor, scratch,
                                       size, picture->height, row, contract->width, taps,
                                       contract->height, rows->count, c)
            : onnxcam_picture_to_float32(picture->pixels, columns->starts, columns->weights,
                                         rows->starts, rows->weights, table,
                                         contract->channels_last, contract->bgr, tensor, scratch,
                                         size, picture->height, row, contract->width, taps,
                                         contract->height, rows->count, c);
    free(scratch);
    return failed(code);
}

/* A row of a picture that is only a few columns wide is filled up with what has weight zero. */
static int widen(Pixels *picture, ptrdiff_t width) {
    Pixels made;
    if (picture->width >= width) return 0;
    if (allocate(&made, width, picture->height, picture->channels)) return 2;
    copy_part(picture, 0, 0, &made);
    replace(picture, &made);
    return 0;
}

static int fill(const Contract *contract, Pixels *picture, Window window, void *tensor) {
    Taps columns = {0}, rows = {0};
    ptrdiff_t channels = picture->channels;
    int wrong = find_taps(contract, picture->width, window.width, window.left, contract->width,
                          channels, &columns);
    if (!wrong)
        wrong = find_taps(contract, picture->height, window.height, window.top, contract->height,
                          1, &rows);
    if (!wrong) wrong = widen(picture, columns.count);
    if (!wrong) wrong = resample(contract, picture, &columns, &rows, tensor);
    free(columns.starts);
    free(columns.weights);
    free(rows.starts);
    free(rows.weights);
    return wrong;
}

int prepare(const Contract *contract, const Picture *picture, void **tensor, Rectangle *seen) {
    Pixels own;
    Window window;
    ptrdiff_t values = contract->height * contract->width * contract->channels;
    *tensor = malloc((size_t)values * (contract->bytes ? 1 : sizeof(float)));
    if (!*tensor) return fail("out of memory");
    if (allocate(&own, picture->width, picture->height, 3)) return 2;
    memcpy(own.pixels, picture->pixels, 3 * (size_t)(picture->width * picture->height));
    int wrong = find_window(contract, &own, &window);
    if (!wrong) *seen = rectangle_of(contract, &own, &window);
    if (!wrong && contract->channels == 1) wrong = make_gray(&own);
    if (!wrong && !contract->antialias && contract->filter != 0) {
        wrong = without_antialias(contract, &window, &own);
        window = (Window){contract->height, contract->width, 0, 0};
    }
    if (!wrong) wrong = fill(contract, &own, window, *tensor);
    free(own.pixels);
    return wrong;
}
