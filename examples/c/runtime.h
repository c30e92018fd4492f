/* onnxruntime, through its C API: a session, and tensors in and out.
 *
 * The library is loaded when the program runs, so nothing of it is needed to build: what is used of
 * its table of functions is declared in runtime.c.
 */
#ifndef RUNTIME_H
#define RUNTIME_H

#include <stddef.h>
#include <stdint.h>

enum { FLOAT32 = 1, UINT8 = 2, INT8 = 3, INT64 = 7 }; /* ONNXTensorElementDataType */
enum { MOST_AXES = 8 };

typedef struct {
    int type;
    size_t rank;
    int64_t shape[MOST_AXES]; /* below 1 where it is open (of an input or output) */
    void *data;               /* of inputs the caller's, of results the session's */
    void *value;              /* of results: given back by `runtime_release` */
} Tensor;

/* How many elements there are along the axes from `first` on. */
size_t elements(const Tensor *tensor, size_t first);

typedef struct Runtime Runtime;

/* All of these: 0, or 2 after a message. */
int runtime_open(const char *library, const char *model, const char *provider, int threads,
                 Runtime **runtime);
/* `text` is malloc's; NULL where the file has no such entry. */
int runtime_metadata(Runtime *runtime, const char *key, char **text);
/* Whether there is an input (or output) of that name, and its type and shape. */
int runtime_find(Runtime *runtime, int output, const char *name, int *found, Tensor *about);
int runtime_input_count(Runtime *runtime, size_t *count);
int runtime_run(Runtime *runtime, const char *const *names, const Tensor *inputs, size_t count,
                const char *const *output_names, Tensor *results, size_t result_count);

void runtime_release(Runtime *runtime, Tensor *results, size_t count);
void runtime_close(Runtime *runtime); /* NULL is fine */

#endif
