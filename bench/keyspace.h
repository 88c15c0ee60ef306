/* Every byte a client may send or be sent, built once before the clock starts.
 *
 * The keys, as a get contains them, have a fixed width and follow each other, so what a get of N neighbouring keys
 * requests is one slice of `names` and costs one memcpy. The first `keys_per_get` keys are repeated at the end, so that a
 * slice may begin at any key. A value repeats its own key in reverse: so its first KEY_DIGITS bytes already show if it
 * belongs to another one.
 */
#ifndef KEYSPACE_H
#define KEYSPACE_H

#include <stdlib.h>

#include "wording.h"

#define KEY_PREFIX "bench-"
enum {
    KEY_PREFIX_LENGTH = sizeof KEY_PREFIX - 1,
    KEY_DIGITS = 8,
    KEY_LENGTH = KEY_PREFIX_LENGTH + KEY_DIGITS,
};

struct keyspace {
    const struct wording *wording;
    unsigned keys;
    unsigned first;     /* the number in the name of key 0 */
    char *names;        /* every key as in a get, all of the same length */
    size_t name_length;
    char *sets;         /* one whole set request per key, all of the same length */
    size_t set_length;
    size_t value_start; /* of the value inside its set request */
    size_t data_length; /* of the value and the bytes that end it */
};

static inline const char *keyspace_name(const struct keyspace *k, unsigned key)
{
    return k->names + (size_t)key * k->name_length;
}

static inline const char *keyspace_key(const struct keyspace *k, unsigned key)
{
    return keyspace_name(k, key) + k->wording->key_start;
}

static inline const char *keyspace_set(const struct keyspace *k, unsigned key)
{
    return k->sets + (size_t)key * k->set_length;
}

static inline const char *keyspace_data(const struct keyspace *k, unsigned key)
{
    return keyspace_set(k, key) + k->value_start;
}

/* Of a get of `keys` keys. */
static inline size_t keyspace_get_length(const struct keyspace *k, size_t keys)
{
    return strlen(k->wording->get_start) + keys * k->name_length + strlen(k->wording->get_end);
}

/* The number of the key that `text` contains, or `keys` if it is not a key of this keyspace. */
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

static inline void spell_key(char key[KEY_LENGTH + 1], unsigned number)
{
    snprintf(key, KEY_LENGTH + 1, KEY_PREFIX "%0*u", KEY_DIGITS, number);
}

/* False if there is not enough memory. wording, keys and first must be set. */
static inline int keyspace_build(struct keyspace *k, unsigned keys_per_get, size_t value_size)
{
    const struct wording *w = k->wording;
    char key[KEY_LENGTH + 1], head[MAX_HEAD_LENGTH];
    spell_key(key, k->first);
    k->name_length = w->write_key(head, key);
    k->value_start = w->write_set(head, key, value_size);
    k->data_length = value_size + strlen(w->value_end);
    k->set_length = k->value_start + k->data_length;
    k->names = malloc((size_t)(k->keys + keys_per_get) * k->name_length + 1);
    k->sets = malloc((size_t)k->keys * k->set_length + 1);
    if (!k->names || !k->sets)
        return 0;

    for (unsigned i = 0; i < k->keys + keys_per_get; i++) {
        spell_key(key, k->first + i % k->keys);
        w->write_key(k->names + (size_t)i * k->name_length, key);
    }
    for (unsigned i = 0; i < k->keys; i++) {
        char *at = k->sets + (size_t)i * k->set_length;
        spell_key(key, k->first + i);
        at += w->write_set(at, key, value_size);
        for (size_t j = 0; j < value_size; j++)
            *at++ = key[KEY_LENGTH - 1 - j % KEY_LENGTH];
        memcpy(at, w->value_end, strlen(w->value_end));
    }
    return 1;
}

#endif
