/* json.h says what is here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"

/* --- writing --- */

void add(struct text *to, const char *what, size_t length)
{
	if (to->length + length + 1 > to->room) {
		to->room = (to->length + length + 1) * 2;
		to->at = realloc(to->at, to->room);
		if (!to->at)
			_exit(1);
	}
	memcpy(to->at + to->length, what, length);
	to->length += length;
	to->at[to->length] = 0;
}

void add_plain(struct text *to, const char *what)
{
	add(to, what, strlen(what));
}

void add_quoted(struct text *to, const char *what)
{
	char escaped[8];

	add(to, "\"", 1);
	for (; *what; what++) {
		unsigned char c = (unsigned char)*what;

		if (c == '"' || c == '\\') {
			snprintf(escaped, sizeof(escaped), "\\%c", c);
			add_plain(to, escaped);
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(escaped, sizeof(escaped), "\\u%04x", c);
			add_plain(to, escaped);
		} else {
			add(to, what, 1);
		}
	}
	add(to, "\"", 1);
}

void add_member(struct text *to, const char *key, const char *value)
{
	add(to, ",", 1);
	add_quoted(to, key);
	add(to, ":", 1);
	add_quoted(to, value);
}

/* --- reading --- */

static const char *past_blank(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

static const char *past_string(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && !*++at)
			return NULL;
	return *at ? at + 1 : NULL;
}

static const char *past_value(const char *at)
{
	int depth = 0;

	do {
		at = past_blank(at);
		if (*at == '"') {
			at = past_string(at);
			if (!at)
				return NULL;
		} else if (*at == '{' || *at == '[') {
			depth++;
			at++;
		} else if (depth && (*at == '}' || *at == ']')) {
			depth--;
			at++;
		} else if (depth && (*at == ',' || *at == ':')) {
			at++;
		} else {
			size_t length = strcspn(at, ",:{}[]\" \t\r\n");

			if (!length)
				return NULL;
			at += length;
		}
	} while (depth);
	return at;
}

int is_object(const char *text)
{
	const char *end;

	text = past_blank(text);
	if (*text != '{')
		return 0;
	end = past_value(text);
	return end && !*past_blank(end);
}

const char *member(const char *object, const char *key)
{
	const char *at = past_blank(object);

	if (*at != '{')
		return NULL;
	for (at++;; at++) {
		const char *name = past_blank(at), *end;

		if (*name != '"')
			return NULL;
		end = past_string(name);
		if (!end)
			return NULL;
		at = past_blank(end);
		if (*at != ':')
			return NULL;
		at = past_blank(at + 1);
		if ((size_t)(end - name - 2) == strlen(key) && !strncmp(name + 1, key, strlen(key)))
			return at;
		at = past_value(at);
		if (!at)
			return NULL;
		at = past_blank(at);
		if (*at != ',')
			return NULL;
	}
}

char *string_at(const char *value)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char *out, *into;

	if (!value || *value != '"')
		return NULL;
	out = into = malloc(strlen(value) + 1);
	if (!out)
		_exit(1);
	for (value++; *value && *value != '"'; value++) {
		const char *escape;

		if (*value != '\\') {
			*into++ = *value;
			continue;
		}
		value++;
		escape = *value ? strchr(from, *value) : NULL;
		if (escape) {
			*into++ = to[escape - from];
		} else if (*value == 'u' && strspn(value + 1, "0123456789abcdefABCDEF") >= 4) {
			char digits[5] = {0};
			long c;

			memcpy(digits, value + 1, 4);
			c = strtol(digits, NULL, 16);
			if (c >= 0x800 && (c < 0xd800 || c > 0xdfff)) {
				*into++ = (char)(0xe0 | c >> 12);
				*into++ = (char)(0x80 | (c >> 6 & 0x3f));
				*into++ = (char)(0x80 | (c & 0x3f));
			} else if (c >= 0x80 && c < 0x800) {
				*into++ = (char)(0xc0 | c >> 6);
				*into++ = (char)(0x80 | (c & 0x3f));
			} else {
				*into++ = c && c < 0x80 ? (char)c : '?'; /* half of a pair: not worth its code */
			}
			value += 4;
		} else {
			free(out);
			return NULL;
		}
	}
	*into = 0;
	return out;
}
