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
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "heatmap.h"
#include "message.h"
#include "options.h"
#include "picture.h"
#include "prepare.h"
#include "runtime.h"
#include "scores.h"

const char *const program_name = "explain";

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

static int read_contract(Job *job, const Options *options) {
    char *text;
    if (runtime_metadata(job->runtime, "onnxcam", &text)) return 2;
    if (!text)
        return fail("'%s' is not an explaining file (it has no contract); make one with 'onnxcam "
                    "export'", options->model);
    int wrong = contract_read(text, &job->contract);
    free(text);
    const char *method = options->method->name;
    if (!wrong && job->contract.emit != EMIT_GRADIENT && strcmp(method, "gradcam") != 0)
        return fail("method '%s' needs the gradient, which the file does not emit", method);
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

static int explain(Job *job, const Options *options) {
    Map map = {NULL, 0, 0};
    size_t targets = job->target_rank == 2 ? job->target_count : 0;
    int wrong = make_map(job->contract.emit, options->method, job->results + 1, targets, &map);
    if (!wrong) wrong = paint(&map, &job->seen, &job->picture);
    if (!wrong) wrong = write_ppm(options->out, &job->picture);
    free(map.values);
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
