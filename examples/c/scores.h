/* What the model says of the classes. */
#ifndef SCORES_H
#define SCORES_H

#include "contract.h"

/* The class with the highest score; a NaN counts as the highest, as in NumPy. `ties` is how many
 * classes share it. */
size_t best_class(const float *scores, size_t count, size_t *ties);

/* Print `most` classes, best first, with their labels and probabilities (or bare scores), and the
 * explained one where it is not among them. 0, or 2 after a message. */
int print_best(const Contract *contract, const float *scores, size_t count, size_t most,
               size_t explained);

#endif
