/* Predict and explain a picture:
 *
 *     explain MODEL.cam.onnx PICTURE.ppm OUT.ppm [CLASS]
 *
 * CLASS is an index, -1 (the default) for the highest score. Prints the five best classes, the
 * explained one marked with *, and writes the picture with the heatmap over it.
 *
 *     --method NAME      gradcam, gradcam++, xgradcam, layercam, hirescam, gradcam-elementwise
 *     --plain            predict only: no map, nothing written (OUT.ppm is left out)
 *     --threads N        of onnxruntime; 0, the default, leaves it the choice
 *     --provider NAME    an execution provider, an error where it is missing
 *     --onnxruntime FILE libonnxruntime.so; else the environment's ONNXRUNTIME_LIBRARY, else the
 *                        one that the program was made with
 *
 * Anything wrong is one line on stderr and the exit status 2, with nothing written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "message.h"
#include "onnxcam.h"
#include "picture.h"
#include "prepare.h"
#include "runtime.h"
#include "scores.h"

#ifndef ONNXRUNTIME_LIBRARY
#define ONNXRUNTIME_LIBRARY "libonnxruntime.so.1"
#endif

const char *const program_name = "explain";

typedef int32_t Kernel(const float *activation, const float *gradient, float *raw, float *finished,
                       double *summary, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions,
                       ptrdiff_t targets);

/* Grad-CAM first: it is what a file makes that has no more than pooled weights. */
static const struct {
    const char *name;
    Kernel *kernel;
} methods[] = {
    {"gradcam", onnxcam_gradcam},
    {"gradcam++", onnxcam_gradcam_plusplus},
    {"xgradcam", onnxcam_xgradcam},
    {"layercam", onnxcam_layercam},
    {"hirescam", onnxcam_hirescam},
    {"gradcam-elementwise", onnxcam_gradcam_elementwise},
};

typedef struct {
    const char *model, *picture, *out, *library, *provider;
    int64_t target;
    size_t method;
    int threads, plain;
} Options;

typedef struct {
    Runtime *runtime;
    Contract contract;
    Picture picture;
    void *tensor;
    Rectangle seen;
    int64_t targets[MOST_AXES * 32]; /* the class, once for each that the file asks for */
    size_t target_rank, target_count;
    float *scores;
    Tensor results[3]; /* scores, then what explains them */
} Job;

static int whole_number(const char *text, long low, long high, long *out) {
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    return *text && !*end && !errno && *out >= low && *out <= high;
}

static int find_method(const char *name, size_t *method) {
    for (*method = 0; *method < sizeof methods / sizeof *methods; ++*method)
        if (strcmp(methods[*method].name, name) == 0) return 0;
    return fail("method '%s': unknown", name);
}

static int read_options(int count, char **words, Options *options) {
    const char *usage = "expected MODEL.cam.onnx PICTURE.ppm OUT.ppm [CLASS], or --plain "
                        "MODEL.cam.onnx PICTURE.ppm";
    const char *own = getenv("ONNXRUNTIME_LIBRARY"), *names[4];
    int given = 0;
    long number;
    *options = (Options){.library = own ? own : ONNXRUNTIME_LIBRARY, .target = -1};
    for (int i = 1; i < count; ++i) {
        const char *word = words[i];
        int named = strncmp(word, "--", 2) == 0;
        if (named && strcmp(word, "--plain") == 0) {
            options->plain = 1;
        } else if (!named) {
            if (given == 4) return fail("%s", usage);
            names[given++] = word;
        } else if (i + 1 == count) {
            return fail("%s: unknown, or without its value", word);
        } else if (strcmp(word, "--threads") == 0) {
            if (!whole_number(words[++i], 0, 1024, &number))
                return fail("--threads %s: expected 0 to 1024", words[i]);
            options->threads = (int)number;
        } else if (strcmp(word, "--method") == 0) {
            if (find_method(words[++i], &options->method)) return 2;
        } else if (strcmp(word, "--provider") == 0) {
            options->provider = words[++i];
        } else if (strcmp(word, "--onnxruntime") == 0) {
            options->library = words[++i];
        } else {
            return fail("%s: unknown", word);
        }
    }
    if (options->plain ? given != 2 : given < 3) return fail("%s", usage);
    options->model = names[0];
    options->picture = names[1];
    options->out = options->plain ? NULL : names[2];
    if (given == 4) {
        if (!whole_number(names[3], -2147483647, 2147483647, &number))
            return fail("class '%s': expected an index, or -1 for the highest score", names[3]);
        options->target = number;
    }
    return 0;
}

static int read_contract(Job *job, const Options *options) {
    char *text;
    if (runtime_metadata(job->runtime, "onnxcam", &text)) return 2;
    if (!text)
        return fail("'%s' is not an explaining file (it has no contract); make one with 'onnxcam "
                    "export'", options->model);
    int wrong = contract_read(text, &job->contract);
    free(text);
    if (!wrong && options->method != 0 && job->contract.emit != EMIT_GRADIENT)
        return fail("method '%s' needs the gradient, which the file does not emit",
                    methods[options->method].name);
    return wrong;
}

/* The picture input's shape: [1, C, h, w] or [1, h, w, C]. */
static void input_shape(const Contract *contract, int64_t *shape) {
    int last = contract->channels_last;
    shape[0] = 1;
    shape[last ? 3 : 1] = contract->channels;
    shape[last ? 1 : 2] = contract->height;
    shape[last ? 2 : 3] = contract->width;
}

/* Whether the graph's picture input is what the contract says. */
static int check_input(Job *job) {
    Tensor about;
    int found;
    int64_t shape[4];
    const Contract *contract = &job->contract;
    if (runtime_find(job->runtime, 0, contract->input, &found, &about)) return 2;
    if (!found) return fail("contract: the graph has no input '%s'", contract->input);
    if (about.type != (contract->bytes ? UINT8 : FLOAT32))
        return fail("contract: the graph's input '%s' has another type", contract->input);
    input_shape(contract, shape);
    if (about.rank == 4 && about.shape[0] > 1)
        return fail("the model takes batches of %lld: this example makes one picture",
                    (long long)about.shape[0]);
    for (size_t i = 0; i < about.rank; ++i)
        if (about.rank != 4 || (about.shape[i] > 0 && about.shape[i] != shape[i]))
            return fail("contract: size %tdx%td with %td channels does not fit the graph's input",
                        contract->height, contract->width, contract->channels);
    return 0;
}

/* How many classes the graph says there are; 0 where it leaves that open. */
static int count_classes(Job *job, int64_t *classes) {
    Tensor about;
    int found;
    *classes = 1;
    if (runtime_find(job->runtime, 1, job->contract.output, &found, &about)) return 2;
    if (!found) return fail("contract: the graph has no output '%s'", job->contract.output);
    if (about.type != FLOAT32 && about.type != UINT8 && about.type != INT8)
        return fail("the scores are neither float32 nor bytes: this example reads those");
    for (size_t i = 1; i < about.rank; ++i)
        *classes = about.shape[i] < 1 ? 0 : *classes * about.shape[i];
    return 0;
}

static int fill_targets(Job *job, int64_t target) {
    Tensor about;
    int found;
    int64_t classes;
    if (count_classes(job, &classes)) return 2;
    if (classes == 0 && job->contract.labels) classes = (int64_t)job->contract.labels->count;
    if (target < -1 || (classes > 0 && target >= classes))
        return classes > 0 ? fail("target %lld: expected 0 to %lld, or -1 for the highest score",
                                  (long long)target, (long long)classes - 1)
                           : fail("target %lld: expected an index, or -1 for the highest score",
                                  (long long)target);
    if (runtime_find(job->runtime, 0, "cam_target", &found, &about)) return 2;
    if (!found)
        return target == -1 ? 0 : fail("target: the file has no input 'cam_target' and always "
                                       "explains the highest score");
    job->target_rank = about.rank;
    job->target_count = about.rank == 2 && about.shape[1] > 0 ? (size_t)about.shape[1] : 1;
    if (job->target_count > sizeof job->targets / sizeof *job->targets)
        return fail("the file takes %zu classes at once: too many for this example",
                    job->target_count);
    for (size_t i = 0; i < job->target_count; ++i) job->targets[i] = target;
    return 0;
}

/* The outputs that are asked for after the scores. */
static size_t explaining_outputs(Emit emit, const char **names) {
    names[0] = emit == EMIT_HEATMAP ? "cam_heatmap" : "cam_activation";
    names[1] = emit == EMIT_WEIGHTS ? "cam_weights" : "cam_gradient";
    return emit == EMIT_HEATMAP ? 1 : 2;
}

static int run(Job *job, int plain) {
    const Contract *contract = &job->contract;
    Tensor inputs[2] = {
        {contract->bytes ? UINT8 : FLOAT32, 4, {0}, job->tensor, NULL},
        {INT64, job->target_rank, {1, (int64_t)job->target_count}, job->targets, NULL},
    };
    input_shape(contract, inputs[0].shape);
    const char *names[] = {contract->input, "cam_target"}, *outputs[3] = {contract->output};
    size_t count, given = job->target_count ? 2 : 1;
    if (runtime_input_count(job->runtime, &count)) return 2;
    if (count != given) return fail("the model takes further inputs: this example has none");
    size_t results = 1 + (plain ? 0 : explaining_outputs(contract->emit, outputs + 1));
    if (runtime_run(job->runtime, names, inputs, given, outputs, job->results, results)) return 2;
    for (size_t i = 1; i < results; ++i)
        if (job->results[i].type != FLOAT32)
            return fail("output '%s' is not float32: this example reads those", outputs[i]);
    return 0;
}

static size_t elements(const Tensor *tensor, size_t first) {
    size_t count = 1;
    for (size_t i = first; i < tensor->rank; ++i) count *= (size_t)tensor->shape[i];
    return count;
}

/* The scores as float32, dequantised where they are bytes: as the Python engine rounds. */
static int read_scores(Job *job, size_t classes) {
    const Tensor *given = &job->results[0];
    const float zero = (float)job->contract.output_zero, scale = (float)job->contract.output_scale;
    if (!job->scores) job->scores = malloc(classes * sizeof *job->scores);
    if (!job->scores) return fail("out of memory");
    for (size_t i = 0; i < classes; ++i) {
        float value = given->type == UINT8  ? (float)((const uint8_t *)given->data)[i]
                      : given->type == INT8 ? (float)((const int8_t *)given->data)[i]
                                            : ((const float *)given->data)[i];
        job->scores[i] = (value - zero) * scale;
    }
    return 0;
}

/* Run, and once more where several classes share the highest score: the class that is named is
 * then the one that is explained. */
static int predict(Job *job, const Options *options) {
    if (run(job, options->plain)) return 2;
    size_t ties, classes = elements(&job->results[0], 1);
    if (classes == 0 || job->results[0].rank < 1) return fail("the model gives no scores");
    if (read_scores(job, classes)) return 2;
    size_t best = best_class(job->scores, classes, &ties);
    if (options->target >= 0 && (size_t)options->target >= classes)
        return fail("target %lld: expected 0 to %zu", (long long)options->target, classes - 1);
    size_t chosen = options->target < 0 ? best : (size_t)options->target;
    if (ties > 1 && options->target < 0 && job->target_count) {
        for (size_t i = 0; i < job->target_count; ++i) job->targets[i] = (int64_t)chosen;
        runtime_release(job->runtime, job->results, 3);
        if (run(job, options->plain)) return 2;
    }
    if (job->contract.labels && job->contract.labels->count != classes)
        return fail("contract: %zu labels for %zu classes", job->contract.labels->count, classes);
    return print_best(&job->contract, job->scores, classes, 5, chosen);
}

/* The finished map of the first target, 0 to 1; `map` is malloc's. */
static int make_map(const Job *job, size_t method, float **map, ptrdiff_t *height,
                    ptrdiff_t *width) {
    const Tensor *first = &job->results[1], *second = &job->results[2];
    int heatmap = job->contract.emit == EMIT_HEATMAP;
    size_t several = job->target_rank == 2;
    if (first->rank != (heatmap ? 3 + several : 4) || elements(first, 0) == 0)
        return fail("the layer's maps are not two-dimensional");
    *height = (ptrdiff_t)first->shape[first->rank - 2];
    *width = (ptrdiff_t)first->shape[first->rank - 1];
    ptrdiff_t positions = *height * *width, channels = heatmap ? 1 : (ptrdiff_t)first->shape[1];
    size_t targets = several ? job->target_count : 1;
    size_t slopes = (size_t)channels * (job->contract.emit == EMIT_WEIGHTS ? 1 : (size_t)positions);
    if (!heatmap && elements(second, 0) != targets * slopes)
        return fail("the outputs' shapes do not fit together");
    size_t values = targets * (size_t)positions;
    double *summary = malloc(4 * targets * sizeof *summary);
    float *raw = malloc(values * sizeof *raw);
    *map = malloc(values * sizeof **map);
    int32_t code = 0;
    if (!summary || !raw || !*map) {
        free(summary);
        free(raw);
        return fail("out of memory");
    }
    if (heatmap) {
        memcpy(*map, first->data, values * sizeof **map);
        code = onnxcam_summarise(*map, summary, 1, positions);
        if (summary[3] > 0.0) memset(*map, 0, values * sizeof **map);
    } else {
        int weights = job->contract.emit == EMIT_WEIGHTS;
        code = (weights ? onnxcam_weighted_sum : methods[method].kernel)(
            first->data, second->data, raw, *map, summary, 1, channels, positions,
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

/* Paint in place, with the alpha of 0.4 that the Python package has by default. */
static int paint(const float *map, ptrdiff_t h, ptrdiff_t w, const Rectangle *seen,
                 Picture *picture) {
    ptrdiff_t width = picture->width, height = picture->height, stride = 3 * width;
    ptrdiff_t size = onnxcam_overlay_jet_scratch(h, w, height, width, 3);
    if (size < 0) return fail("overlay: %s", onnxcam_error_text((int32_t)-size));
    void *scratch = malloc((size_t)size);
    if (!scratch) return fail("out of memory");
    int32_t code = onnxcam_overlay_jet(map, seen->left, seen->top, seen->right, seen->bottom, 0.0,
                                       picture->pixels, stride, 0.4, 0, 0, height, picture->pixels,
                                       stride, scratch, size, h, w, height, width, 3);
    free(scratch);
    return code ? fail("overlay: %s", onnxcam_error_text(code)) : 0;
}

static int explain(Job *job, const Options *options) {
    float *map = NULL;
    ptrdiff_t height = 0, width = 0;
    int wrong = make_map(job, options->method, &map, &height, &width);
    if (!wrong) wrong = paint(map, height, width, &job->seen, &job->picture);
    if (!wrong) wrong = write_ppm(options->out, &job->picture);
    free(map);
    return wrong;
}

int main(int count, char **words) {
    Options options;
    Job job = {0};
    int wrong = read_options(count, words, &options);
    if (!wrong) wrong = read_ppm(options.picture, &job.picture);
    if (!wrong)
        wrong = runtime_open(options.library, options.model, options.provider, options.threads,
                             &job.runtime);
    if (!wrong) wrong = read_contract(&job, &options);
    if (!wrong) wrong = check_input(&job);
    if (!wrong) wrong = fill_targets(&job, options.target);
    if (!wrong) wrong = prepare(&job.contract, &job.picture, &job.tensor, &job.seen);
    if (!wrong) wrong = predict(&job, &options);
    if (!wrong && !options.plain) wrong = explain(&job, &options);
    if (job.runtime) runtime_release(job.runtime, job.results, 3);
    runtime_close(job.runtime);
    contract_free(&job.contract);
    free(job.picture.pixels);
    free(job.tensor);
    free(job.scores);
    return wrong;
}
