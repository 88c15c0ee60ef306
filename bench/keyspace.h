/* Every byte a client may send or be sent, built once before the clock starts.
 *
 * Keys have one fixed width and lie one behind the other, each with a blank in front, so the argument list of a get of
 * N neighbouring keys is one slice of `names` and costs one memcpy. The first `keys_per_get` keys are repeated at the
 * end, so that a slice may begin at any key. A value repeats its own key: a value that belongs to another key is seen
 * at its first byte that differs.
 */
#ifndef KEYSPACE_H
#define KEYSPACE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_PREFIX "bench-"
enum {
    KEY_PREFIX_LENGTH = sizeof KEY_PREFIX - 1,
    KEY_DIGITS = 8,
    KEY_LENGTH = KEY_PREFIX_LENGTH + KEY_DIGITS,
    NAME_LENGTH = KEY_LENGTH + 1, /* with the blank in front */
};

struct keyspace {
    unsigned keys;
    unsigned first; /* the number in the name of key 0 */
    char *names;
    char *sets;         /* one whole set request per key, all of the same length */
    size_t set_length;
    size_t value_start; /* of the value inside its set request */
    size_t data_length; /* of the value with the CR LF behind it */
};

static inline const char *keyspace_key(const struct keyspace *k, unsigned key)
{
    return k->names + (size_t)key * NAME_LENGTH + 1;
}

static inline const char *keyspace_set(const struct keyspace *k, unsigned key)
{
    return k->sets + (size_t)key * k->set_length;
}

static inline const char *keyspace_data(const struct keyspace *k, unsigned key)
{
    return keyspace_set(k, key) + k->value_start;
}

/* The number of the key that `text` spells, or `keys` when it is none of ours. */
static inline unsigned keyspace_find(const struct keyspace *k, const char *text, size_t length)
{
    if (length != KEY_LENGTH || memcmp(text, KEY_PREFIX, KEY_PREFIX_LENGTH) != 0)
        return k->keys;
    unsigned key = 0;
    for (unsigned i = KEY_PREFIX_LENGTH; i < KEY_LENGTH; i++) {
        if (text[i] < '0' || text[i] > '9')
            return k->keys;
        key = key * 10 + (unsigned)(text[i] - '0');
    }
    key -= k->first; /* a number below the first becomes a very large one */
    return key < k->keys ? key : k->keys;
}

/* False when there is not the memory for it. */
static inline int keyspace_build(struct keyspace *k, unsigned keys, unsigned first, unsigned keys_per_get, size_t value_size)
{
    char head[64];
    k->keys = keys;
    k->first = first;
    k->value_start = (size_t)snprintf(head, sizeof head, "set %0*u 0 0 %zu\r\n", KEY_LENGTH, 0, value_size);
    k->data_length = value_size + 2;
    k->set_length = k->value_start + k->data_length;
    k->names = malloc((size_t)(keys + keys_per_get) * NAME_LENGTH + 1);
    k->sets = malloc((size_t)keys * k->set_length + 1);
    if (!k->names || !k->sets)
        return 0;

    for (unsigned i = 0; i < keys + keys_per_get; i++)
        sprintf(k->names + (size_t)i * NAME_LENGTH, " " KEY_PREFIX "%0*u", KEY_DIGITS, first + i % keys);
    for (unsigned key = 0; key < keys; key++) {
        const char *name = keyspace_key(k, key);
        char *at = k->sets + (size_t)key * k->set_length;
        at += sprintf(at, "set %.*s 0 0 %zu\r\n", KEY_LENGTH, name, value_size);
        for (size_t i = 0; i < value_size; i++)
            *at++ = name[i % KEY_LENGTH];
        memcpy(at, "\r\n", 2);
    }
    return 1;
}

#endif
