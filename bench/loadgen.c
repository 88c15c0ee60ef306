/* loadgen: a closed-loop load generator for the memcached text protocol. One thread, one epoll.
 *
 *     keyspace -> fill_batch -> flush ---------------- send
 *                     ^                                  server
 *     histogram <- answered <- take_line / take_data - recv
 *
 * A client sends a batch of --pipeline requests, reads until all of them are answered, then sends the next batch, as a
 * client library with a pipeline does. So a server always meets the same batches, however it groups its answers.
 * The latency of a request runs from just before its batch is sent to the recv that completes its answer.
 *
 * It must be much cheaper than what it measures: one recv and one send per readiness, requests copied from prebuilt
 * text, answers parsed where they were received. It must never hang: connecting, every wait of every client and the
 * whole phase have deadlines; all end with a message and EXIT_BROKEN.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <time.h>

#include "connect.h"
#include "histogram.h"
#include "keyspace.h"
#include "options.h"

enum {
    LINE_MAX_LENGTH = 2048,   /* a VALUE line has less than 300 bytes; what is left is for talkative error lines */
    INPUT_SIZE = 256 * 1024,  /* what one recv may bring: a multi-get of 100 keys or a few large values */
    EVENTS_PER_WAIT = 256,
    CHECK_MILLISECONDS = 250, /* how often deadlines are looked at when nothing else happens */
    PREPARATION_SECONDS = 60, /* for the preload, and for the warm-up */
};
#define SECOND UINT64_C(1000000000)

struct request {
    bool is_set;
    unsigned first_key; /* a get asks for this key and its keys_per_get - 1 neighbours */
};

struct client {
    int fd;
    bool waits_to_write;
    unsigned sent, answered; /* requests of the current batch */
    struct request *batch;
    char *output;
    size_t output_length, output_done;

    /* Where the answer to batch[answered] stands: in a line (data_left == 0) or in the data block of data_key. */
    size_t data_left;
    unsigned data_key;
    bool data_wrong;
    unsigned values_seen;
    uint64_t *seen; /* bitmap over the keys of one get: an answer may bring each key once */
    char partial[LINE_MAX_LENGTH];
    size_t partial_length;

    uint64_t sent_at, progress_at;
};

/* A stretch of the run with its own counts: preload, warm-up or the counted part. */
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
    struct keyspace keyspace;
    struct phase *phase;
    struct client *clients;
    int epoll;
    uint64_t random_state, errors;
    char input[LINE_MAX_LENGTH + INPUT_SIZE]; /* a partial line is put in front of what recv brings */
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static double own_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        broken("out of memory");
    return memory;
}

/* ---- requests ---- */

static unsigned random_key(struct load *load)
{
    uint64_t x = load->random_state; /* xorshift64*: a few cycles, and good enough to spread keys */
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    load->random_state = x;
    return (unsigned)(((x * UINT64_C(0x2545F4914F6CDD1D)) >> 32) * load->keyspace.keys >> 32);
}

static void append(struct client *c, const char *bytes, size_t length)
{
    memcpy(c->output + c->output_length, bytes, length);
    c->output_length += length;
}

static void append_next_request(struct load *load, struct client *c)
{
    const struct options *o = &load->options;
    struct phase *phase = load->phase;
    struct request *request = &c->batch[c->sent++];
    uint64_t turn = phase->issued++;
    if (phase->sets_in_order) {
        *request = (struct request){true, (unsigned)turn};
    } else {
        /* The set ends its cycle, so gets_per_set = 0 makes every request a set. */
        request->is_set = !o->get_only && turn % (o->gets_per_set + 1) == o->gets_per_set;
        request->first_key = random_key(load);
    }
    if (request->is_set) {
        append(c, keyspace_set(&load->keyspace, request->first_key), load->keyspace.set_length);
        phase->keys++;
    } else {
        append(c, "get", 3);
        append(c, keyspace_key(&load->keyspace, request->first_key) - 1, o->keys_per_get * NAME_LENGTH);
        append(c, "\r\n", 2);
        phase->keys += o->keys_per_get;
    }
}

static void wait_to_write(struct load *load, struct client *c, bool wanted)
{
    if (c->waits_to_write == wanted)
        return;
    c->waits_to_write = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(load->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void flush(struct load *load, struct client *c)
{
    ssize_t n = send(c->fd, c->output + c->output_done, c->output_length - c->output_done,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        broken("send: %s", strerror(errno));
    if (n > 0)
        c->output_done += (size_t)n;
    wait_to_write(load, c, c->output_done < c->output_length);
}

/* Sends the next batch; sends nothing, and so lets the client rest, once the phase has issued its quota. */
static void start_batch(struct load *load, struct client *c)
{
    c->sent = c->answered = 0;
    c->output_length = c->output_done = 0;
    while (c->sent < load->options.pipeline && load->phase->issued < load->phase->quota)
        append_next_request(load, c);
    if (c->sent) {
        c->sent_at = c->progress_at = now();
        flush(load, c);
    }
}

/* ---- answers ---- */

static void count_error(struct load *load, const char *kind, const char *text, size_t length)
{
    if (load->errors++ == 0)
        fprintf(stderr, "loadgen: first error (%s, %s): %.*s\n", load->phase->name, kind, (int)length, text);
}

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

/* The key of a VALUE line must be one that the request asked for and that has not come yet. */
static bool expects_key(struct load *load, struct client *c, unsigned key)
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

/* "VALUE <key> <flags> <bytes>\r\n": the number of bytes is read backwards, from the end of the line. */
static void take_value_line(struct load *load, struct client *c, const char *line, size_t length)
{
    size_t bytes = 0, scale = 1;
    const char *key = line + 6, *digit = line + length - 3;
    for (; *digit >= '0' && *digit <= '9' && scale < 1000000000; digit--, scale *= 10)
        bytes += (size_t)(*digit - '0') * scale;
    if (*digit != ' ' || scale == 1 || digit <= key || line[length - 2] != '\r')
        broken("out of step: bad VALUE line: %.*s", (int)length, line);
    c->data_left = bytes + 2;
    c->values_seen++;
    if (!load->options.verify)
        return;

    const char *key_end = memchr(key, ' ', (size_t)(digit - key) + 1);
    c->data_key = keyspace_find(&load->keyspace, key, (size_t)(key_end - key));
    c->data_wrong = !expects_key(load, c, c->data_key) || c->data_left != load->keyspace.data_length ||
                    digit - key_end != 2 || key_end[1] != '0';
    if (c->data_wrong)
        count_error(load, "wrong value line", line, length - 2);
}

/* A piece of a data block, its CR LF included. */
static void take_data(struct load *load, struct client *c, const char *piece, size_t length)
{
    if (load->options.verify && !c->data_wrong) {
        const char *data = keyspace_data(&load->keyspace, c->data_key);
        if (memcmp(piece, data + load->keyspace.data_length - c->data_left, length) != 0) {
            c->data_wrong = true;
            count_error(load, "wrong content of", keyspace_key(&load->keyspace, c->data_key), KEY_LENGTH);
        }
    }
    c->data_left -= length;
    if (c->data_left == 0 && piece[length - 1] != '\n')
        broken("out of step: a data block does not end where its VALUE line says");
}

static bool starts_with(const char *line, size_t length, const char *start)
{
    size_t n = strlen(start);
    return length >= n && memcmp(line, start, n) == 0;
}

static void take_line(struct load *load, struct client *c, const char *line, size_t length, uint64_t received_at)
{
    const struct options *o = &load->options;
    bool is_set = c->batch[c->answered].is_set;
    if (!is_set && starts_with(line, length, "VALUE ") && length > 12) {
        take_value_line(load, c, line, length);
    } else if (!is_set && length == 5 && memcmp(line, "END\r\n", 5) == 0) {
        if (c->values_seen < o->keys_per_get)
            load->phase->misses += o->keys_per_get - c->values_seen;
        answered(load, c, received_at);
    } else if (is_set && length == 8 && memcmp(line, "STORED\r\n", 8) == 0) {
        answered(load, c, received_at);
    } else if (starts_with(line, length, "ERROR") || starts_with(line, length, "SERVER_ERROR") ||
               starts_with(line, length, "CLIENT_ERROR")) {
        count_error(load, "error line", line, length - 1);
        answered(load, c, received_at);
    } else {
        broken("out of step: a %s was answered with: %.*s", is_set ? "set" : "get", (int)length, line);
    }
}

static void take_answers(struct load *load, struct client *c, const char *at, const char *end, uint64_t received_at)
{
    while (at < end) {
        size_t available = (size_t)(end - at);
        if (c->answered == c->sent)
            broken("out of step: %zu bytes that no request asked for: %.*s", available,
                   available < 60 ? (int)available : 60, at);
        if (c->data_left) {
            size_t piece = available < c->data_left ? available : c->data_left;
            take_data(load, c, at, piece);
            at += piece;
            continue;
        }
        const char *newline = memchr(at, '\n', available);
        if (!newline) {
            if (available > LINE_MAX_LENGTH)
                broken("out of step: a line of more than %d bytes: %.60s", LINE_MAX_LENGTH, at);
            memcpy(c->partial, at, available);
            c->partial_length = available;
            return;
        }
        take_line(load, c, at, (size_t)(newline + 1 - at), received_at);
        at = newline + 1;
    }
}

static void receive(struct load *load, struct client *c)
{
    char *fresh = load->input + LINE_MAX_LENGTH;
    ssize_t n = recv(c->fd, fresh, INPUT_SIZE, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        broken("recv: %s", strerror(errno));
    if (n == 0)
        broken("the server closed a connection (%u of %u requests of its batch answered)", c->answered, c->sent);

    c->progress_at = now();
    char *start = fresh - c->partial_length;
    memcpy(start, c->partial, c->partial_length);
    c->partial_length = 0;
    take_answers(load, c, start, fresh + n, c->progress_at);
    if (c->sent && c->answered == c->sent)
        start_batch(load, c);
}

/* ---- phases ---- */

static void check_stalls(const struct load *load, uint64_t time)
{
    const struct options *o = &load->options;
    uint64_t patience = o->stall_seconds * SECOND;
    unsigned stalled = 0;
    const struct client *example = NULL;
    for (const struct client *c = load->clients; c < load->clients + o->clients; c++) {
        if (c->answered < c->sent && time > c->progress_at && time - c->progress_at > patience) {
            stalled++;
            example = c;
        }
    }
    if (stalled)
        broken("stalled in the %s: %u of %u clients made no progress for %u s (one waits for answer %u of %u)",
               load->phase->name, stalled, (unsigned)o->clients, (unsigned)o->stall_seconds, example->answered + 1,
               example->sent);
    if (time > load->phase->deadline + patience)
        broken("stalled in the %s: answers still trickle in %u s after its end", load->phase->name,
               (unsigned)o->stall_seconds);
}

static void run_phase(struct load *load, struct phase *phase)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    load->phase = phase;
    phase->cpu_seconds = -own_cpu_seconds();
    phase->started = now();
    phase->deadline = phase->started + phase->seconds * SECOND;
    uint64_t next_check = phase->started;

    for (struct client *c = load->clients; c < load->clients + load->options.clients; c++)
        start_batch(load, c);
    while (phase->answered < phase->issued) {
        int ready = epoll_wait(load->epoll, events, EVENTS_PER_WAIT, CHECK_MILLISECONDS);
        if (ready < 0 && errno != EINTR)
            broken("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                c->progress_at = now();
                flush(load, c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                receive(load, c);
        }
        uint64_t time = now();
        if (time >= phase->deadline)
            phase->quota = phase->issued; /* time is up: only what is under way is still waited for */
        if (time >= next_check) {
            check_stalls(load, time);
            next_check = time + CHECK_MILLISECONDS * (SECOND / 1000);
        }
    }
    phase->ended = now();
    phase->cpu_seconds += own_cpu_seconds();
}

static void connect_clients(struct load *load)
{
    const struct options *o = &load->options;
    size_t get_length = 3 + o->keys_per_get * NAME_LENGTH + 2;
    size_t set_length = load->keyspace.set_length;
    size_t request_length = get_length > set_length ? get_length : set_length;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->clients = allocate(o->clients, sizeof *load->clients);
    for (struct client *c = load->clients; c < load->clients + o->clients; c++) {
        c->fd = connect_client(o);
        c->batch = allocate(o->pipeline, sizeof *c->batch);
        c->output = allocate(o->pipeline, request_length);
        c->seen = allocate((o->keys_per_get + 63) / 64, sizeof *c->seen);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
            broken("epoll_ctl: %s", strerror(errno));
    }
}

/* ---- the run ---- */

static void wait_at_gate(void)
{
    char line[64];
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        broken("the gate was closed");
}

static void print_result(const struct phase *phase, uint64_t errors)
{
    double seconds = (double)(phase->ended - phase->started) / 1e9;
    printf("{\"ops\": %llu, \"seconds\": %.6f, \"ops_per_sec\": %.1f, \"keys_per_sec\": %.1f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, "
           "\"errors\": %llu, \"misses\": %llu, \"loadgen_cpu_seconds\": %.6f}\n",
           (unsigned long long)phase->answered, seconds, (double)phase->answered / seconds,
           (double)phase->keys / seconds, (double)histogram_quantile(&phase->latency, 0.50) / 1e3,
           (double)histogram_quantile(&phase->latency, 0.99) / 1e3, (double)phase->latency.max / 1e3,
           (unsigned long long)errors, (unsigned long long)phase->misses, phase->cpu_seconds);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct load load;
    static struct phase preload = {.name = "preload", .sets_in_order = true, .seconds = PREPARATION_SECONDS};
    static struct phase warmup = {.name = "warm-up", .seconds = PREPARATION_SECONDS};
    static struct phase counted = {.name = "counted part"};

    load.options = parse_options(argc, argv);
    const struct options *o = &load.options;
    load.random_state = (o->seed + 1) * UINT64_C(0x9E3779B97F4A7C15); /* small seeds far apart, and never 0 */
    if (!keyspace_build(&load.keyspace, (unsigned)o->keys, (unsigned)o->first_key, (unsigned)o->keys_per_get, o->value_size))
        broken("out of memory for %u keys", (unsigned)o->keys);
    raise_file_limit();
    connect_clients(&load);

    preload.quota = o->preload ? o->keys : 0;
    run_phase(&load, &preload);
    if (preload.answered < preload.quota || load.errors)
        broken("the preload failed: %llu of %llu keys set, %llu errors", (unsigned long long)preload.answered,
               (unsigned long long)o->keys, (unsigned long long)load.errors);
    warmup.quota = o->warmup;
    run_phase(&load, &warmup);

    if (o->gate) {
        puts("ready");
        wait_at_gate();
    }
    counted.quota = o->ops;
    counted.seconds = o->seconds;
    run_phase(&load, &counted);
    print_result(&counted, load.errors);
    if (o->gate)
        wait_at_gate();
    return load.errors ? EXIT_ERRORS : 0;
}
