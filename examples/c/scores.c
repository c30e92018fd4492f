#include "scores.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

size_t best_class(const float *scores, size_t count, size_t *ties) {
    size_t best = 0;
    *ties = 0;
    for (size_t i = 0; i < count; ++i) {
        if (isnan(scores[i])) return i;
        if (scores[i] > scores[best]) best = i;
    }
    for (size_t i = 0; i < count; ++i) *ties += scores[i] >= scores[best];
    return best;
}

/* Probabilities in place of scores, where the contract says how. */
static void to_probabilities(Scores kind, double *values, size_t count) {
    double largest = values[0], total = 0.0;
    for (size_t i = 0; i < count; ++i) largest = fmax(largest, values[i]);
    for (size_t i = 0; i < count; ++i) {
        if (kind == LOGITS_SIGMOID) values[i] = 1.0 / (1.0 + exp(-values[i]));
        if (kind == LOGITS_SOFTMAX) total += values[i] = exp(values[i] - largest);
    }
    for (size_t i = 0; i < count && kind == LOGITS_SOFTMAX; ++i) values[i] /= total;
}

/* The label without a WordNet id before it ("n02099601 golden retriever"). */
static const char *name_of(const Contract *contract, size_t index) {
    const char *label = contract->labels->items[index].text;
    int synset = label[0] == 'n' && strspn(label + 1, "0123456789") == 8 && label[9] == ' ';
    return synset ? label + 10 : label;
}

static void print_class(const Contract *contract, size_t index, double value, int explained) {
    int share = contract->scores != SHOWN_AS_THEY_ARE;
    printf("%c %5zu  %10.4f%s", explained ? '*' : ' ', index, share ? 100.0 * value : value,
           share ? " %" : "");
    if (contract->labels) printf("  %s", name_of(contract, index));
    putchar('\n');
}

int print_best(const Contract *contract, const float *scores, size_t count, size_t most,
               size_t explained) {
    double *values = malloc(count * sizeof *values);
    char *printed = calloc(count, 1);
    if (values && printed) {
        for (size_t i = 0; i < count; ++i) values[i] = (double)scores[i];
        to_probabilities(contract->scores, values, count);
        for (size_t n = 0; n < most && n < count; ++n) {
            size_t best = count;
            for (size_t i = 0; i < count; ++i)
                if (!printed[i] && (best == count || scores[i] > scores[best])) best = i;
            print_class(contract, best, values[best], best == explained);
            printed[best] = 1;
        }
        if (!printed[explained]) print_class(contract, explained, values[explained], 1);
    }
    int good = values && printed;
    free(values);
    free(printed);
    return good ? 0 : fail("out of memory");
}
