/* The state of the load generator while it runs: its clients, the current phase, and the counters. */
#ifndef LOAD_H
#define LOAD_H

#include <time.h>

#include "connect.h"
#include "histogram.h"
#include "keyspace.h"
#include "options.h"

enum {
    HEAD_MAX_LENGTH = 2048,   /* a VALUE line has less than 300 bytes; the rest is for long error lines */
    INPUT_SIZE = 256 * 1024,  /* what one recv may return: a multi-get of 100 keys or a few large values */
};
#define SECOND UINT64_C(1000000000)

struct request {
    bool is_set;
    unsigned first_key; /* a get requests this key and its keys_per_get - 1 neighbours */
};

struct client {
    int fd;
    bool waits_to_write;
    unsigned sent, answered; /* requests of the current batch */
    struct request *batch;
    char *output;
    size_t output_length, output_done;

    /* The position in the reply to batch[answered]: in a head (data_left == 0) or in the data block of data_key. */
    size_t data_left;
    unsigned data_key;
    bool data_unchecked; /* it was not requested, is already counted as wrong, or is the text of an error */
    bool data_is_last;   /* the reply ends with it */
    unsigned values_seen;
    uint64_t *seen; /* bitmap over the keys of one get: a reply may contain each key once */
    char partial[HEAD_MAX_LENGTH];
    size_t partial_length;

    uint64_t sent_at, progress_at;
};

/* A part of the run with its own counters: preload, warm-up or the counted part. */
struct phase {
    const char *name;
    bool sets_in_order; /* preload: key number = operation number */
    uint64_t quota, issued, answered, keys, misses;
    uint64_t seconds, started, ended, deadline;
    double cpu_seconds;
    struct histogram latency;
};

struct load {
    struct options options;
    struct target target;
    struct keyspace keyspace;
    struct phase *phase;
    struct client *clients;
    int epoll;
    uint64_t random_state, errors;
    char input[HEAD_MAX_LENGTH + INPUT_SIZE]; /* a partial head is put in front of what recv returns */
};

static inline uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static inline double own_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        broken("out of memory");
    return memory;
}

static inline void count_error(struct load *load, const char *kind, const char *text, size_t length)
{
    if (load->errors++ == 0)
        fprintf(stderr, "loadgen: first error (%s, %s): %.*s\n", load->phase->name, kind, (int)length, text);
}

#endif
