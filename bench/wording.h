/* The get and the set of each protocol, in one table. The replies are read in answers.h. */
#ifndef WORDING_H
#define WORDING_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum protocol { TEXT, META, BINARY, PROTOCOLS };

enum {
    BINARY_HEADER = 24,
    BINARY_REQUEST = 0x80,
    BINARY_ANSWER = 0x81,
    BINARY_GET = 0x00,
    BINARY_SET = 0x01,
    MAX_HEAD_LENGTH = 64, /* of all that precedes a value, and of a key with what surrounds it */
};

struct wording {
    const char *name;
    const char *get_start, *get_end;                  /* around the keys of a get */
    size_t key_start;                                 /* of the key inside what write_key wrote */
    size_t (*write_key)(char *at, const char *key);   /* one key of a get; returns the length */
    size_t (*write_set)(char *at, const char *key, size_t value_size); /* what precedes the value */
    const char *value_end;
};

static size_t write_text_key(char *at, const char *key)
{
    return (size_t)sprintf(at, " %s", key);
}

static size_t write_text_set(char *at, const char *key, size_t value_size)
{
    return (size_t)sprintf(at, "set %s 0 0 %zu\r\n", key, value_size);
}

static size_t write_meta_key(char *at, const char *key)
{
    return (size_t)sprintf(at, "mg %s f v\r\n", key);
}

static size_t write_meta_set(char *at, const char *key, size_t value_size)
{
    return (size_t)sprintf(at, "ms %s %zu\r\n", key, value_size);
}

static void put_number(char *at, uint32_t value, int bytes)
{
    while (bytes--)
        *at++ = (char)(value >> 8 * bytes);
}

static uint32_t number_at(const char *at, int bytes)
{
    uint32_t value = 0;
    while (bytes--)
        value = value << 8 | (unsigned char)*at++;
    return value;
}

/* Header, extras of zeros and the key. */
static size_t write_binary(char *at, int opcode, size_t extras, const char *key, size_t value_size)
{
    size_t key_length = strlen(key);
    memset(at, 0, BINARY_HEADER + extras);
    at[0] = (char)BINARY_REQUEST;
    at[1] = (char)opcode;
    put_number(at + 2, (uint32_t)key_length, 2);
    at[4] = (char)extras;
    put_number(at + 8, (uint32_t)(extras + key_length + value_size), 4);
    memcpy(at + BINARY_HEADER + extras, key, key_length);
    return BINARY_HEADER + extras + key_length;
}

static size_t write_binary_key(char *at, const char *key)
{
    return write_binary(at, BINARY_GET, 0, key, 0);
}

static size_t write_binary_set(char *at, const char *key, size_t value_size)
{
    return write_binary(at, BINARY_SET, 8, key, value_size); /* flags and expiration */
}

static const struct wording WORDINGS[PROTOCOLS] = {
    [TEXT] = {"text", "get", "\r\n", 1, write_text_key, write_text_set, "\r\n"},
    [META] = {"meta", "", "", 3, write_meta_key, write_meta_set, "\r\n"},
    [BINARY] = {"binary", "", "", BINARY_HEADER, write_binary_key, write_binary_set, ""},
};

#endif
