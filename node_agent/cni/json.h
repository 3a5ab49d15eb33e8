/* JSON (RFC 8259) for a program of one message: texts that grow, and as much of reading as finds one member of an object.
 *
 * Included by shim.c. Texts end with a zero byte, and are never freed. Without memory the program ends.
 */
#ifndef MIZAR_JSON_H
#define MIZAR_JSON_H

#include <stddef.h>

/* All zero is an empty one. */
struct text {
	char *at;
	size_t length, room;
};

void add(struct text *to, const char *what, size_t length);
void add_plain(struct text *to, const char *what);

/* As a JSON string. */
void add_quoted(struct text *to, const char *what);

/* A comma, the key and the value, both as strings. */
void add_member(struct text *to, const char *key, const char *value);

/* Whether the text is one object and nothing else. */
int is_object(const char *text);

/* Where the member's value begins; NULL when there is none. */
const char *member(const char *object, const char *key);

/* The string without its escapes, in memory of its own; NULL when the value is no string, or one that we never send. */
char *string_at(const char *value);

#endif
