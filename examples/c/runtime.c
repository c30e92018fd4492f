#include "runtime.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

enum { API_VERSION = 17, ERRORS_ONLY = 4, ARENA_ALLOCATOR = 1, DEFAULT_MEMORY = 0 };

typedef void Status; /* of onnxruntime's own types only pointers are handed around */

/* The functions that are used, each with its place in the table that GetApi returns. The table only
 * ever grows at its end. Its order is in onnxruntime's public header
 * (github.com/microsoft/onnxruntime, include/onnxruntime/core/session/onnxruntime_c_api.h, struct
 * OrtApi; as a bare list in csharp/src/Microsoft.ML.OnnxRuntime/NativeMethods.shared.cs). */
#define FUNCTIONS(X)                                                                          \
    X(2, const char *, GetErrorMessage, (const Status *))                                     \
    X(3, Status *, CreateEnv, (int level, const char *name, void **environment))              \
    X(7, Status *, CreateSession,                                                             \
      (const void *environment, const char *model, const void *options, void **session))      \
    X(9, Status *, Run,                                                                       \
      (void *session, const void *options, const char *const *names, const void *const *inputs, \
       size_t count, const char *const *output_names, size_t output_count, void **outputs))   \
    X(10, Status *, CreateSessionOptions, (void **options))                                   \
    X(22, Status *, SetSessionLogSeverityLevel, (void *options, int level))                   \
    X(24, Status *, SetIntraOpNumThreads, (void *options, int threads))                       \
    X(30, Status *, SessionGetInputCount, (const void *session, size_t *count))               \
    X(31, Status *, SessionGetOutputCount, (const void *session, size_t *count))              \
    X(33, Status *, SessionGetInputTypeInfo, (const void *session, size_t i, void **info))    \
    X(34, Status *, SessionGetOutputTypeInfo, (const void *session, size_t i, void **info))   \
    X(36, Status *, SessionGetInputName,                                                      \
      (const void *session, size_t i, void *allocator, char **name))                          \
    X(37, Status *, SessionGetOutputName,                                                     \
      (const void *session, size_t i, void *allocator, char **name))                          \
    X(49, Status *, CreateTensorWithDataAsOrtValue,                                           \
      (const void *memory, void *data, size_t bytes, const int64_t *shape, size_t rank, int type, \
       void **value))                                                                         \
    X(51, Status *, GetTensorMutableData, (void *value, void **data))                         \
    X(55, Status *, CastTypeInfoToTensorInfo, (const void *info, const void **tensor_info))   \
    X(60, Status *, GetTensorElementType, (const void *tensor_info, int *type))               \
    X(61, Status *, GetDimensionsCount, (const void *tensor_info, size_t *rank))              \
    X(62, Status *, GetDimensions, (const void *tensor_info, int64_t *shape, size_t rank))    \
    X(65, Status *, GetTensorTypeAndShape, (const void *value, void **tensor_info))           \
    X(69, Status *, CreateCpuMemoryInfo, (int allocator, int kind, void **memory))            \
    X(76, Status *, AllocatorFree, (void *allocator, void *memory))                           \
    X(78, Status *, GetAllocatorWithDefaultOptions, (void **allocator))                       \
    X(92, void, ReleaseEnv, (void *))                                                         \
    X(93, void, ReleaseStatus, (Status *))                                                    \
    X(94, void, ReleaseMemoryInfo, (void *))                                                  \
    X(95, void, ReleaseSession, (void *))                                                     \
    X(96, void, ReleaseValue, (void *))                                                       \
    X(98, void, ReleaseTypeInfo, (void *))                                                    \
    X(99, void, ReleaseTensorTypeAndShapeInfo, (void *))                                      \
    X(100, void, ReleaseSessionOptions, (void *))                                             \
    X(111, Status *, SessionGetModelMetadata, (const void *session, void **metadata))         \
    X(116, Status *, ModelMetadataLookupCustomMetadataMap,                                    \
      (const void *metadata, void *allocator, const char *key, char **text))                  \
    X(118, void, ReleaseModelMetadata, (void *))                                              \
    X(125, Status *, GetAvailableProviders, (char ***names, int *count))                      \
    X(126, Status *, ReleaseAvailableProviders, (char **names, int count))

typedef void (*Function)(void);
typedef struct {
    const Function *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} ApiBase;

struct Runtime {
    void *library, *environment, *session, *memory, *allocator;
#define DECLARE(place, result, name, arguments) result(*name) arguments;
    FUNCTIONS(DECLARE)
};

/* 0, or 2 after a message that says what could not be done and why. */
static int check(const Runtime *runtime, Status *status, const char *what) {
    if (!status) return 0;
    fail("%s: %s", what, runtime->GetErrorMessage(status));
    runtime->ReleaseStatus(status);
    return 2;
}

static int load(const char *library, Runtime *runtime) {
    runtime->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!runtime->library) return fail("onnxruntime: %s", dlerror());
    void *symbol = dlsym(runtime->library, "OrtGetApiBase");
    const ApiBase *(*get_base)(void);
    memcpy(&get_base, &symbol, sizeof get_base); /* C has no cast from data to function pointers */
    if (!symbol) return fail("onnxruntime: '%s' is another library", library);
    const Function *table = get_base()->GetApi(API_VERSION);
    if (!table)
        return fail("onnxruntime: '%s' is of version %s, needed is 1.%d or newer", library,
                    get_base()->GetVersionString(), API_VERSION);
#define TAKE(place, result, name, arguments) runtime->name = (result(*) arguments)table[place];
    FUNCTIONS(TAKE)
    return 0;
}

/* This program asks for the CPU only; others have a function of their own in the table. */
static int check_provider(const Runtime *runtime, const char *wanted) {
    char **names, known[400] = "";
    int count, found = 0;
    if (check(runtime, runtime->GetAvailableProviders(&names, &count), "onnxruntime")) return 2;
    for (int i = 0; i < count; ++i) {
        found = found || strcmp(names[i], wanted) == 0;
        if (strlen(known) + strlen(names[i]) + 3 > sizeof known) continue;
        strcat(strcat(known, i ? ", " : ""), names[i]);
    }
    runtime->ReleaseAvailableProviders(names, count);
    if (!found) return fail("provider '%s': not in this onnxruntime, which has %s", wanted, known);
    if (strcmp(wanted, "CPUExecutionProvider") == 0) return 0;
    return fail("provider '%s': this example runs on CPUExecutionProvider only", wanted);
}

static int open_session(Runtime *runtime, const char *model, int threads) {
    void *options;
    if (check(runtime, runtime->CreateEnv(ERRORS_ONLY, program_name, &runtime->environment),
              "onnxruntime") ||
        check(runtime, runtime->GetAllocatorWithDefaultOptions(&runtime->allocator), "memory") ||
        check(runtime,
              runtime->CreateCpuMemoryInfo(ARENA_ALLOCATOR, DEFAULT_MEMORY, &runtime->memory),
              "memory") ||
        check(runtime, runtime->CreateSessionOptions(&options), "options"))
        return 2;
    int wrong =
        check(runtime, runtime->SetSessionLogSeverityLevel(options, ERRORS_ONLY), "options");
    if (!wrong && threads > 0)
        wrong = check(runtime, runtime->SetIntraOpNumThreads(options, threads), "threads");
    if (!wrong)
        wrong = check(runtime,
                      runtime->CreateSession(runtime->environment, model, options,
                                             &runtime->session),
                      "cannot load the model");
    runtime->ReleaseSessionOptions(options);
    return wrong;
}

int runtime_open(const char *library, const char *model, const char *provider, int threads,
                 Runtime **made) {
    Runtime *runtime = *made = calloc(1, sizeof *runtime);
    if (!runtime) return fail("out of memory");
    int wrong = load(library, runtime);
    if (!wrong && provider) wrong = check_provider(runtime, provider);
    return wrong ? wrong : open_session(runtime, model, threads);
}

int runtime_metadata(Runtime *runtime, const char *key, char **text) {
    void *metadata;
    char *found = NULL;
    *text = NULL;
    if (check(runtime, runtime->SessionGetModelMetadata(runtime->session, &metadata), "metadata"))
        return 2;
    int wrong = check(runtime,
                      runtime->ModelMetadataLookupCustomMetadataMap(metadata, runtime->allocator,
                                                                    key, &found),
                      "metadata");
    runtime->ReleaseModelMetadata(metadata);
    if (wrong || !found) return wrong;
    *text = malloc(strlen(found) + 1);
    if (*text) strcpy(*text, found);
    wrong = check(runtime, runtime->AllocatorFree(runtime->allocator, found), "memory");
    return *text ? wrong : fail("out of memory");
}

/* Type and shape, of onnxruntime's own description. */
static int describe(Runtime *runtime, const void *info, Tensor *about) {
    if (check(runtime, runtime->GetTensorElementType(info, &about->type), "type") ||
        check(runtime, runtime->GetDimensionsCount(info, &about->rank), "shape"))
        return 2;
    if (about->rank > MOST_AXES) return fail("a tensor has %zu axes", about->rank);
    return check(runtime, runtime->GetDimensions(info, about->shape, about->rank), "shape");
}

static int describe_place(Runtime *runtime, int output, size_t i, Tensor *about) {
    void *info;
    const void *tensor = NULL;
    if (check(runtime,
              output ? runtime->SessionGetOutputTypeInfo(runtime->session, i, &info)
                     : runtime->SessionGetInputTypeInfo(runtime->session, i, &info),
              "type"))
        return 2;
    int wrong = check(runtime, runtime->CastTypeInfoToTensorInfo(info, &tensor), "type");
    if (!wrong) wrong = tensor ? describe(runtime, tensor, about) : fail("not a tensor");
    runtime->ReleaseTypeInfo(info);
    return wrong;
}

int runtime_find(Runtime *runtime, int output, const char *name, int *found, Tensor *about) {
    size_t count;
    *found = 0;
    if (check(runtime,
              output ? runtime->SessionGetOutputCount(runtime->session, &count)
                     : runtime->SessionGetInputCount(runtime->session, &count),
              "model"))
        return 2;
    for (size_t i = 0; i < count && !*found; ++i) {
        char *own;
        if (check(runtime,
                  output ? runtime->SessionGetOutputName(runtime->session, i, runtime->allocator,
                                                         &own)
                         : runtime->SessionGetInputName(runtime->session, i, runtime->allocator,
                                                        &own),
                  "model"))
            return 2;
        *found = strcmp(own, name) == 0;
        if (check(runtime, runtime->AllocatorFree(runtime->allocator, own), "memory")) return 2;
        if (*found && describe_place(runtime, output, i, about)) return 2;
    }
    return 0;
}

int runtime_input_count(Runtime *runtime, size_t *count) {
    return check(runtime, runtime->SessionGetInputCount(runtime->session, count), "model");
}

size_t elements(const Tensor *tensor, size_t first) {
    size_t count = 1;
    for (size_t i = first; i < tensor->rank; ++i) count *= (size_t)tensor->shape[i];
    return count;
}

static size_t bytes_of(const Tensor *tensor) {
    size_t size = tensor->type == FLOAT32 ? 4 : tensor->type == INT64 ? 8 : 1;
    return size * elements(tensor, 0);
}

/* A result's type, shape and data. */
static int open_result(Runtime *runtime, Tensor *result) {
    void *info;
    if (check(runtime, runtime->GetTensorTypeAndShape(result->value, &info), "result")) return 2;
    int wrong = describe(runtime, info, result);
    runtime->ReleaseTensorTypeAndShapeInfo(info);
    if (wrong) return wrong;
    return check(runtime, runtime->GetTensorMutableData(result->value, &result->data), "result");
}

int runtime_run(Runtime *runtime, const char *const *names, const Tensor *inputs, size_t count,
                const char *const *output_names, Tensor *results, size_t result_count) {
    enum { MOST = 4 };
    const void *given[MOST];
    void *made[MOST] = {NULL}, *answers[MOST] = {NULL};
    int wrong = 0;
    memset(results, 0, result_count * sizeof *results);
    if (count > MOST || result_count > MOST) return fail("more than %d inputs or outputs", MOST);
    for (size_t i = 0; !wrong && i < count; ++i) {
        const Tensor *each = &inputs[i];
        wrong = check(runtime,
                      runtime->CreateTensorWithDataAsOrtValue(runtime->memory, each->data,
                                                              bytes_of(each), each->shape,
                                                              each->rank, each->type, &made[i]),
                      names[i]);
        given[i] = made[i];
    }
    if (!wrong)
        wrong = check(runtime,
                      runtime->Run(runtime->session, NULL, names, given, count, output_names,
                                   result_count, answers),
                      "running the model failed");
    for (size_t i = 0; i < result_count; ++i) results[i].value = answers[i];
    for (size_t i = 0; !wrong && i < result_count; ++i) wrong = open_result(runtime, &results[i]);
    for (size_t i = 0; i < count; ++i)
        if (made[i]) runtime->ReleaseValue(made[i]);
    return wrong;
}

void runtime_release(Runtime *runtime, Tensor *results, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (results[i].value) runtime->ReleaseValue(results[i].value);
    memset(results, 0, count * sizeof *results);
}

void runtime_close(Runtime *runtime) {
    if (!runtime) return;
    if (runtime->session) runtime->ReleaseSession(runtime->session);
    if (runtime->memory) runtime->ReleaseMemoryInfo(runtime->memory);
    if (runtime->environment) runtime->ReleaseEnv(runtime->environment);
    free(runtime); /* the library stays, as long as the process: it has threads of its own */
}
