#include "json.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST 32

static int read_value(const char **at, Json *value, int depth);

static void skip_blanks(const char **at) { *at += strspn(*at, " \t\n\r"); }

static int is_next(const char **at, char wanted) {
    skip_blanks(at);
    if (**at != wanted) return 0;
    ++*at;
    return 1;
}

static int read_hex(const char **at, unsigned long *code) {
    *code = 0;
    for (int i = 0; i < 4; ++i) {
        const char *digits = "0123456789abcdef";
        char c = **at;
        const char *found = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
        if (!found) return 0;
        *code = *code * 16 + (unsigned long)(found - digits);
        ++*at;
    }
    return 1;
}

static void put_utf8(unsigned long code, char **to) {
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned long heads[] = {0, 0xC0, 0xE0, 0xF0};
    *(*to)++ = (char)(heads[more] | code >> 6 * more);
    while (more-- > 0) *(*to)++ = (char)(0x80 | (code >> 6 * more & 0x3F));
}

/* Behind the backslash. No escape is shorter than what it stands for. */
static int read_escape(const char **at, char **to) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char c = *(*at)++;
    const char *found = c ? strchr(names, c) : NULL;
    if (found) {
        *(*to)++ = meant[found - names];
        return 1;
    }
    unsigned long code, low;
    if (c != 'u' || !read_hex(at, &code) || code == 0 || (code >= 0xDC00 && code < 0xE000))
        return 0;
    if (code >= 0xD800 && code < 0xDC00) { /* the first half of a pair */
        if (strncmp(*at, "\\u", 2) != 0) return 0;
        *at += 2;
        if (!read_hex(at, &low) || low < 0xDC00 || low >= 0xE000) return 0;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    put_utf8(code, to);
    return 1;
}

static int read_text(const char **at, Json *value) {
    value->kind = JSON_TEXT;
    if (!is_next(at, '"')) return 0;
    const char *end = *at;
    while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
    char *to = value->text = malloc((size_t)(end - *at) + 1);
    if (!to) return 0;
    while (**at != '"') {
        char c = *(*at)++;
        if ((unsigned char)c < 0x20) return 0; /* the end of the document too */
        if (c != '\\') *to++ = c;
        else if (!read_escape(at, &to)) return 0;
    }
    ++*at;
    *to = '\0';
    return 1;
}

static int digits(const char **at) {
    size_t found = strspn(*at, "0123456789");
    *at += found;
    return found > 0;
}

static int read_number(const char **at, Json *value) {
    const char *start = *at;
    if (**at == '-') ++*at;
    if (**at == '0') ++*at;
    else if (!digits(at)) return 0;
    if (**at == '.') {
        ++*at;
        if (!digits(at)) return 0;
    }
    if (**at == 'e' || **at == 'E') {
        ++*at;
        if (**at == '+' || **at == '-') ++*at;
        if (!digits(at)) return 0;
    }
    value->kind = JSON_NUMBER;
    value->number = strtod(start, NULL); /* with the locale that every C program starts with */
    return 1;
}

/* Room for one item more (`width` values of it), null at first. */
static Json *grow(Json *list, size_t width) {
    size_t count = list->count;
    if ((count & (count - 1)) == 0) { /* room for twice as many at every power of two */
        Json *items = realloc(list->items, (count ? 2 * count : 1) * width * sizeof *items);
        if (!items) return NULL;
        list->items = items;
    }
    list->count = count + 1;
    return memset(&list->items[count * width], 0, width * sizeof *list->items);
}

static int read_items(const char **at, Json *value, int depth) {
    int object = *(*at)++ == '{';
    char end = object ? '}' : ']';
    value->kind = object ? JSON_OBJECT : JSON_LIST;
    if (is_next(at, end)) return 1;
    do {
        Json *item = grow(value, object ? 2 : 1);
        if (!item) return 0;
        if (object && !(read_text(at, item++) && is_next(at, ':'))) return 0;
        if (!read_value(at, item, depth + 1)) return 0;
    } while (is_next(at, ','));
    return is_next(at, end);
}

static int read_word(const char **at, const char *word, JsonKind kind, Json *value) {
    value->kind = kind;
    if (strncmp(*at, word, strlen(word)) != 0) return 0;
    *at += strlen(word);
    return 1;
}

static int read_value(const char **at, Json *value, int depth) {
    if (depth > DEEPEST) return 0;
    skip_blanks(at);
    switch (**at) {
    case '{':
    case '[': return read_items(at, value, depth);
    case '"': return read_text(at, value);
    case 'n': return read_word(at, "null", JSON_NULL, value);
    case 't': return read_word(at, "true", JSON_TRUE, value);
    case 'f': return read_word(at, "false", JSON_FALSE, value);
    default: return read_number(at, value);
    }
}

int json_read(const char *text, Json *document) {
    memset(document, 0, sizeof *document);
    if (!read_value(&text, document, 0)) return 0;
    skip_blanks(&text);
    return *text == '\0';
}

void json_free(Json *value) {
    size_t count = value->kind == JSON_OBJECT ? 2 * value->count : value->count;
    for (size_t i = 0; i < count; ++i) json_free(&value->items[i]);
    free(value->items);
    free(value->text);
    memset(value, 0, sizeof *value);
}

const Json *json_get(const Json *object, const char *key) {
    if (!object || object->kind != JSON_OBJECT) return NULL;
    for (size_t i = object->count; i-- > 0;)
        if (strcmp(object->items[2 * i].text, key) == 0) return &object->items[2 * i + 1];
    return NULL;
}
