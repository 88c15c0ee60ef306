/* What the server sends: heads and data blocks, separated, checked and counted.
 *
 *     take_answers -> head_length, take_head of the protocol -> value_begins -> take_data -> answered
 *
 * A head is a line of the text protocol or a header of the binary one with its extras. The data block that may follow is
 * the value and the bytes that end it, or the text of a binary error.
 */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "load.h"

static void answered(struct load *load, struct client *c, uint64_t received_at)
{
    histogram_add(&load->phase->latency, received_at - c->sent_at);
    load->phase->answered++;
    c->answered++;
    if (c->values_seen) {
        c->values_seen = 0;
        memset(c->seen, 0, (load->options.keys_per_get + 63) / 64 * sizeof *c->seen);
    }
}

static void answered_with_error(struct load *load, struct client *c, const char *text, size_t length, uint64_t received_at)
{
    count_error(load, "error", text, length);
    answered(load, c, received_at);
}

/* Counts the keys of a get that the reply did not contain. */
static void count_misses(struct load *load, const struct client *c)
{
    if (c->values_seen < load->options.keys_per_get)
        load->phase->misses += load->options.keys_per_get - c->values_seen;
}

/* ---- values ---- */

/* The key of a value must be one of the request that has not been received yet. */
static bool expects_key(const struct load *load, struct client *c, unsigned key)
{
    const struct keyspace *k = &load->keyspace;
    if (key == k->keys)
        return false;
    unsigned place = (key + k->keys - c->batch[c->answered].first_key) % k->keys;
    uint64_t bit = (uint64_t)1 << place % 64;
    if (place >= load->options.keys_per_get || c->seen[place / 64] & bit)
        return false;
    c->seen[place / 64] |= bit;
    return true;
}

/* A head announces a value of `bytes` bytes for `key`; `as_expected`: the other fields of the head are correct. */
static void value_begins(struct load *load, struct client *c, size_t bytes, unsigned key, bool as_expected,
                         const char *head, size_t length)
{
    c->data_left = bytes + strlen(load->keyspace.wording->value_end);
    c->data_key = key;
    c->data_unchecked = !load->options.verify;
    c->values_seen++;
    if (load->options.verify && !(as_expected && expects_key(load, c, key) && c->data_left == load->keyspace.data_length)) {
        c->data_unchecked = true;
        count_error(load, "wrong head of a value", head, length);
    }
}

/* A part of a data block, including the bytes that end it. */
static void take_data(struct load *load, struct client *c, const char *piece, size_t length, uint64_t received_at)
{
    if (!c->data_unchecked) {
        const char *data = keyspace_data(&load->keyspace, c->data_key);
        if (memcmp(piece, data + load->keyspace.data_length - c->data_left, length) != 0) {
            c->data_unchecked = true;
            count_error(load, "wrong content of", keyspace_key(&load->keyspace, c->data_key), KEY_LENGTH);
        }
    }
    c->data_left -= length;
    if (c->data_left)
        return;
    const char *value_end = load->keyspace.wording->value_end;
    if (*value_end && piece[length - 1] != value_end[strlen(value_end) - 1])
        broken("out of step: a data block does not end where its head says");
    if (c->data_is_last) {
        c->data_is_last = false;
        answered(load, c, received_at);
    }
}

/* ---- heads: lines ---- */

static size_t line_length(const char *at, size_t available)
{
    const char *newline = memchr(at, '\n', available);
    return newline ? (size_t)(newline + 1 - at) : 0;
}

static bool is(const char *line, size_t length, const char *whole)
{
    return length == strlen(whole) && memcmp(line, whole, length) == 0;
}

static bool starts_with(const char *line, size_t length, const char *start)
{
    size_t n = strlen(start);
    return length >= n && memcmp(line, start, n) == 0;
}

static bool is_error(const char *line, size_t length)
{
    return starts_with(line, length, "ERROR") || starts_with(line, length, "SERVER_ERROR") ||
           starts_with(line, length, "CLIENT_ERROR");
}

_Noreturn static void unexpected(bool is_set, const char *line, size_t length)
{
    broken("out of step: a %s was answered with: %.*s", is_set ? "set" : "get", (int)length, line);
}

/* "VALUE <key> <flags> <bytes>\r\n": the number of bytes is read backwards, from the end of the line. */
static void take_value_line(struct load *load, struct client *c, const char *line, size_t length)
{
    size_t bytes = 0, scale = 1;
    const char *key = line + 6, *digit = line + length - 3;
    for (; *digit >= '0' && *digit <= '9' && scale < 1000000000; digit--, scale *= 10)
        bytes += (size_t)(*digit - '0') * scale;
    if (*digit != ' ' || scale == 1 || digit <= key || line[length - 2] != '\r')
        broken("out of step: bad VALUE line: %.*s", (int)length, line);

    unsigned number = 0;
    bool as_expected = true;
    if (load->options.verify) {
        const char *key_end = memchr(key, ' ', (size_t)(digit - key) + 1);
        number = keyspace_find(&load->keyspace, key, (size_t)(key_end - key));
        as_expected = digit - key_end == 2 && key_end[1] == '0'; /* the flags */
    }
    value_begins(load, c, bytes, number, as_expected, line, length - 2);
}

static void take_text_line(struct load *load, struct client *c, const char *line, size_t length, uint64_t received_at)
{
    bool is_set = c->batch[c->answered].is_set;
    if (!is_set && starts_with(line, length, "VALUE ") && length > 12) {
        take_value_line(load, c, line, length);
    } else if (!is_set && is(line, length, "END\r\n")) {
        count_misses(load, c);
        answered(load, c, received_at);
    } else if (is_set && is(line, length, "STORED\r\n")) {
        answered(load, c, received_at);
    } else if (is_error(line, length)) {
        answered_with_error(load, c, line, length - 1, received_at);
    } else {
        unexpected(is_set, line, length);
    }
}

/* "VA <bytes> f<flags>\r\n", "EN\r\n", "HD\r\n" */
static void take_meta_line(struct load *load, struct client *c, const char *line, size_t length, uint64_t received_at)
{
    const struct request *request = &c->batch[c->answered];
    if (!request->is_set && starts_with(line, length, "VA ") && line[3] >= '0' && line[3] <= '9') {
        char *end;
        size_t bytes = strtoull(line + 3, &end, 10); /* ends at the line's end at the latest */
        c->data_is_last = true;
        value_begins(load, c, bytes, request->first_key, is(end, (size_t)(line + length - end), " f0\r\n"), line, length - 1);
    } else if (!request->is_set && is(line, length, "EN\r\n")) {
        count_misses(load, c);
        answered(load, c, received_at);
    } else if (request->is_set && is(line, length, "HD\r\n")) {
        answered(load, c, received_at);
    } else if (is_error(line, length)) {
        answered_with_error(load, c, line, length - 1, received_at);
    } else {
        unexpected(request->is_set, line, length);
    }
}

/* ---- heads: binary ---- */

enum { BINARY_FOUND = 0, BINARY_NOT_FOUND = 1 };

/* The extras are between the header and the value. They are counted as part of the head. */
static size_t binary_head_length(const char *at, size_t available)
{
    if (available < BINARY_HEADER)
        return 0;
    size_t length = BINARY_HEADER + (unsigned char)at[4];
    return available < length ? 0 : length;
}

static void take_binary_head(struct load *load, struct client *c, const char *head, size_t length, uint64_t received_at)
{
    const struct request *request = &c->batch[c->answered];
    size_t extras = length - BINARY_HEADER, body = number_at(head + 8, 4);
    unsigned status = number_at(head + 6, 2);
    if ((unsigned char)head[0] != BINARY_ANSWER || head[1] != (request->is_set ? BINARY_SET : BINARY_GET) || body < extras)
        broken("out of step: a %s was answered with magic %02x, opcode %02x, a body of %zu bytes",
               request->is_set ? "set" : "get", (unsigned char)head[0], (unsigned char)head[1], body);

    c->data_is_last = true;
    if (status == BINARY_FOUND && !request->is_set) {
        bool as_expected = number_at(head + 2, 2) == 0 && extras == 4 && number_at(head + BINARY_HEADER, 4) == 0;
        value_begins(load, c, body - extras, request->first_key, as_expected, "a binary header", 15);
    } else {
        if (status == BINARY_NOT_FOUND && !request->is_set)
            count_misses(load, c);
        else if (status != BINARY_FOUND) {
            char shown[32];
            count_error(load, "error", shown, (size_t)snprintf(shown, sizeof shown, "binary status 0x%04x", status));
        }
        c->data_left = body - extras; /* the text of the status */
        c->data_unchecked = true;
    }
    if (c->data_left == 0) {
        c->data_is_last = false;
        answered(load, c, received_at);
    }
}

/* ---- all ---- */

static const struct {
    size_t (*head_length)(const char *at, size_t available); /* 0 if it is incomplete */
    void (*take_head)(struct load *load, struct client *c, const char *head, size_t length, uint64_t received_at);
} READERS[PROTOCOLS] = {
    [TEXT] = {line_length, take_text_line},
    [META] = {line_length, take_meta_line},
    [BINARY] = {binary_head_length, take_binary_head},
};

static void take_answers(struct load *load, struct client *c, const char *at, const char *end, uint64_t received_at)
{
    enum protocol protocol = load->options.protocol;
    while (at < end) {
        size_t available = (size_t)(end - at);
        if (c->answered == c->sent)
            broken("out of step: %zu bytes that no request asked for: %.*s", available,
                   available < 60 ? (int)available : 60, at);
        if (c->data_left) {
            size_t piece = available < c->data_left ? available : c->data_left;
            take_data(load, c, at, piece, received_at);
            at += piece;
            continue;
        }
        size_t length = READERS[protocol].head_length(at, available);
        if (!length) {
            if (available > HEAD_MAX_LENGTH)
                broken("out of step: a line of more than %d bytes: %.60s", HEAD_MAX_LENGTH, at);
            memcpy(c->partial, at, available);
            c->partial_length = available;
            return;
        }
        READERS[protocol].take_head(load, c, at, length, received_at);
        at += length;
    }
}

#endif
