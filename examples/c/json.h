/* A strict reader of JSON (RFC 8259) into a tree. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>

typedef enum {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_TEXT,
    JSON_LIST,
    JSON_OBJECT
} JsonKind;

typedef struct Json {
    JsonKind kind;
    double number;
    char *text;         /* UTF-8, of JSON_TEXT */
    size_t count;       /* of a list's or an object's items */
    struct Json *items; /* an object's keys and values by turns: key 2 * i, value 2 * i + 1 */
} Json;

/* 1, or 0 where `text` is not one JSON document, is nested more than 32 deep, has a NUL in a
 * string, or memory runs out. `json_free` afterwards, either way. */
int json_read(const char *text, Json *document);
void json_free(Json *value);

/* The value of a key (the last one if it stands there twice), or NULL. */
const Json *json_get(const Json *object, const char *key);

#endif
