#include "contract.h"

#include <math.h>
#include <string.h>

#include "message.h"

#define MOST_PIXELS 65536.0

static const char *text_of(const Json *object, const char *key) {
    const Json *value = json_get(object, key);
    return value && value->kind == JSON_TEXT ? value->text : "";
}

/* The place of a text among `names` (NULL ends them), or -1. */
static int place_of(const char *text, const char *const *names) {
    for (int i = 0; names[i]; ++i)
        if (strcmp(text, names[i]) == 0) return i;
    return -1;
}

static int whole(const Json *value, ptrdiff_t *out) {
    if (!value || value->kind != JSON_NUMBER || value->number != floor(value->number)) return 0;
    if (value->number < 1.0 || value->number > MOST_PIXELS) return 0;
    *out = (ptrdiff_t)value->number;
    return 1;
}

/* A number, or a list of one or `count` of them, to `count` numbers. */
static int numbers(const Json *object, const char *key, double usual, ptrdiff_t count,
                   double *out) {
    const Json *value = json_get(object, key);
    for (ptrdiff_t i = 0; i < count; ++i) {
        const Json *item = value;
        if (value && value->kind == JSON_LIST) {
            if (value->count != 1 && value->count != (size_t)count) return 0;
            item = &value->items[value->count == 1 ? 0 : i];
        }
        if (item && (item->kind != JSON_NUMBER || !isfinite(item->number))) return 0;
        out[i] = item ? item->number : usual;
    }
    return 1;
}

static int read_output(const Json *output, Contract *contract) {
    static const char *const kinds[] = {"raw", "softmax", "sigmoid", "logits", NULL};
    contract->output = text_of(output, "name");
    const char *activation = text_of(output, "activation");
    int kind = place_of(text_of(output, "kind"), kinds);
    if (kind < 0 || !*contract->output) return fail("contract: 'output' is malformed");
    if (!numbers(output, "scale", 1.0, 1, &contract->output_scale) ||
        !numbers(output, "zero_point", 0.0, 1, &contract->output_zero) ||
        contract->output_scale <= 0.0)
        return fail("contract: 'output' is malformed");
    contract->scores = kind == 1 || kind == 2 ? PROBABILITIES : SHOWN_AS_THEY_ARE;
    if (kind == 3 && strcmp(activation, "softmax") == 0) contract->scores = LOGITS_SOFTMAX;
    if (kind == 3 && strcmp(activation, "sigmoid") == 0) contract->scores = LOGITS_SIGMOID;
    return 0;
}

static int read_resize(const Json *preprocess, Contract *contract) {
    static const char *const modes[] = {"stretch", "crop", NULL};
    static const char *const filters[] = {"nearest", "bilinear", "bicubic", NULL};
    const Json *resize = json_get(preprocess, "resize");
    int mode = 0;
    contract->filter = 1;
    contract->antialias = 1;
    if (resize) {
        const Json *antialias = json_get(resize, "antialias");
        mode = json_get(resize, "mode") ? place_of(text_of(resize, "mode"), modes) : 0;
        if (json_get(resize, "filter"))
            contract->filter = place_of(text_of(resize, "filter"), filters);
        contract->antialias = !antialias || antialias->kind == JSON_TRUE;
    }
    if (mode < 0 || contract->filter < 0) return fail("contract: 'resize' is malformed");
    if (mode == 0) return 0;
    if (!whole(json_get(resize, "shorter_side"), &contract->shorter_side) ||
        contract->shorter_side < contract->height || contract->shorter_side < contract->width)
        return fail("contract: 'resize.shorter_side' is malformed");
    return 0;
}

static int read_preprocess(const Json *preprocess, Contract *contract) {
    static const char *const colors[] = {"RGB", "BGR", "GRAY", NULL};
    if (!preprocess || preprocess->kind != JSON_OBJECT)
        return fail("the file does not say how to make its input of a picture: export it with "
                    "--preprocess");
    const Json *size = json_get(preprocess, "size");
    int color = json_get(preprocess, "color") ? place_of(text_of(preprocess, "color"), colors) : 0;
    int good = color >= 0 && size && size->kind == JSON_LIST && size->count == 2 &&
               whole(&size->items[0], &contract->height) &&
               whole(&size->items[1], &contract->width);
    contract->channels = color == 2 ? 1 : 3;
    contract->bgr = color == 1;
    good = good && numbers(preprocess, "scale", 1.0, 1, &contract->scale) &&
           numbers(preprocess, "mean", 0.0, contract->channels, contract->mean) &&
           numbers(preprocess, "std", 1.0, contract->channels, contract->std);
    for (ptrdiff_t i = 0; good && i < contract->channels; ++i) good = contract->std[i] > 0.0;
    return good ? read_resize(preprocess, contract) : fail("contract: 'preprocess' is malformed");
}

static int read_input(const Json *input, Contract *contract) {
    static const char *const types[] = {"float32", "uint8", NULL};
    static const char *const layouts[] = {"NCHW", "NHWC", NULL};
    contract->input = text_of(input, "name");
    contract->bytes = place_of(text_of(input, "dtype"), types);
    contract->channels_last = place_of(text_of(input, "layout"), layouts);
    if (contract->bytes < 0)
        return fail("the picture input is %s: this example fills float32 and uint8",
                    text_of(input, "dtype"));
    if (!*contract->input || contract->channels_last < 0)
        return fail("contract: 'input' is malformed");
    return read_preprocess(json_get(input, "preprocess"), contract);
}

static int read_labels(const Json *labels, Contract *contract) {
    if (!labels || labels->kind == JSON_NULL) return 0;
    int good = labels->kind == JSON_LIST;
    for (size_t i = 0; good && i < labels->count; ++i) good = labels->items[i].kind == JSON_TEXT;
    contract->labels = labels;
    return good ? 0 : fail("contract: 'labels' is malformed");
}

int contract_read(const char *text, Contract *contract) {
    static const char *const emits[] = {"gradient", "weights", "heatmap", NULL};
    memset(contract, 0, sizeof *contract);
    if (!json_read(text, &contract->document)) return fail("contract: not JSON");
    const Json *document = &contract->document, *version = json_get(document, "version");
    if (!version || version->kind != JSON_NUMBER || version->number != 1.0)
        return fail("contract: not of version 1: export the model again");
    int emit = place_of(text_of(document, "emit"), emits);
    if (emit < 0) return fail("contract: 'emit' is malformed");
    contract->emit = (Emit)emit;
    int wrong = read_output(json_get(document, "output"), contract);
    if (!wrong) wrong = read_input(json_get(document, "input"), contract);
    return wrong ? wrong : read_labels(json_get(document, "labels"), contract);
}

void contract_free(Contract *contract) { json_free(&contract->document); }
