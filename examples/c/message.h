/* One line on stderr, and the exit status of a program that was given something wrong. */
#ifndef MESSAGE_H
#define MESSAGE_H

extern const char *const program_name; /* defined beside main */

/* Print "program: message" (line breaks become spaces); returns 2. */
__attribute__((format(printf, 1, 2))) int fail(const char *format, ...);

#endif
