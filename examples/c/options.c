#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#ifndef ONNXRUNTIME_LIBRARY
#define ONNXRUNTIME_LIBRARY "libonnxruntime.so.1"
#endif

static int whole_number(const char *text, long low, long high, long *out) {
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    return *text && !*end && !errno && *out >= low && *out <= high;
}

int read_options(int count, char **words, Options *options) {
    const char *usage = "expected MODEL.cam.onnx PICTURE.ppm OUT.ppm [CLASS], or --plain "
                        "MODEL.cam.onnx PICTURE.ppm";
    const char *own = getenv("ONNXRUNTIME_LIBRARY"), *names[4];
    int given = 0;
    long number;
    *options = (Options){.library = own ? own : ONNXRUNTIME_LIBRARY, .target = -1};
    options->method = find_method("gradcam");
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
            options->method = find_method(words[++i]);
            if (!options->method) return fail("method '%s': unknown", words[i]);
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
