/* loadgen: a closed-loop load generator for memcached, in its text, meta and binary protocols. One thread, one epoll.
 *
 *     keyspace -> start_batch -> flush ------------- send
 *                     ^                                 server
 *     histogram <- answered <- take_answers -------- recv
 *
 * A client sends a batch of --pipeline requests, reads until it has all replies, then sends the next batch, as a
 * client library with a pipeline does. So a server always receives the same batches, however it groups its replies.
 * With --reconnect each batch uses a new connection, as a PHP page does.
 * The latency of a request runs from just before its batch is sent, or its connection is opened, to the recv that
 * completes its reply.
 *
 * It must cost much less than what it measures: one recv and one send per readiness event, requests copied from prebuilt
 * bytes, replies parsed where they were received. It must never hang: connecting, every wait of every client and the
 * whole phase have deadlines; all end with a message and EXIT_BROKEN.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>

#include "answers.h"
#include "load.h"

enum {
    EVENTS_PER_WAIT = 256,
    CHECK_MILLISECONDS = 250, /* how often deadlines are checked when nothing else happens */
    PREPARATION_SECONDS = 60, /* for the preload, and for the warm-up */
};

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
        /* A cycle ends with the set, so with gets_per_set = 0 every request is a set. */
        request->is_set = !o->get_only && turn % (o->gets_per_set + 1) == o->gets_per_set;
        request->first_key = random_key(load);
    }
    if (request->is_set) {
        append(c, keyspace_set(&load->keyspace, request->first_key), load->keyspace.set_length);
        phase->keys++;
    } else {
        const struct wording *w = load->keyspace.wording;
        append(c, w->get_start, strlen(w->get_start));
        append(c, keyspace_name(&load->keyspace, request->first_key), o->keys_per_get * load->keyspace.name_length);
        append(c, w->get_end, strlen(w->get_end));
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

static void open_connection(struct load *load, struct client *c)
{
    c->fd = connect_client(&load->target);
    c->waits_to_write = false;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        broken("epoll_ctl: %s", strerror(errno));
}

/* Sends the next batch. Sends nothing once the phase has issued its quota: the client is then idle. */
static void start_batch(struct load *load, struct client *c)
{
    c->sent = c->answered = 0;
    c->output_length = c->output_done = 0;
    while (c->sent < load->options.pipeline && load->phase->issued < load->phase->quota)
        append_next_request(load, c);
    if (c->sent) {
        c->sent_at = c->progress_at = now();
        if (load->options.reconnect)
            open_connection(load, c);
        flush(load, c);
    }
}

static void receive(struct load *load, struct client *c)
{
    char *fresh = load->input + HEAD_MAX_LENGTH;
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
    if (c->sent && c->answered == c->sent) {
        if (load->options.reconnect)
            close(c->fd);
        start_batch(load, c);
    }
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
            phase->quota = phase->issued; /* the time is over: only wait for the replies to requests in flight */
        if (time >= next_check) {
            check_stalls(load, time);
            next_check = time + CHECK_MILLISECONDS * (SECOND / 1000);
        }
    }
    phase->ended = now();
    phase->cpu_seconds += own_cpu_seconds();
}

static void prepare_clients(struct load *load)
{
    const struct options *o = &load->options;
    load->target = find_target(o);
    size_t get_length = keyspace_get_length(&load->keyspace, o->keys_per_get);
    size_t set_length = load->keyspace.set_length;
    size_t request_length = get_length > set_length ? get_length : set_length;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->clients = allocate(o->clients, sizeof *load->clients);
    for (struct client *c = load->clients; c < load->clients + o->clients; c++) {
        c->batch = allocate(o->pipeline, sizeof *c->batch);
        c->output = allocate(o->pipeline, request_length);
        c->seen = allocate((o->keys_per_get + 63) / 64, sizeof *c->seen);
        if (!o->reconnect)
            open_connection(load, c);
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
    load.random_state = (o->seed + 1) * UINT64_C(0x9E3779B97F4A7C15); /* spreads small seeds, and is never 0 */
    load.keyspace.wording = &WORDINGS[o->protocol];
    load.keyspace.keys = (unsigned)o->keys;
    load.keyspace.first = (unsigned)o->first_key;
    if (!keyspace_build(&load.keyspace, (unsigned)o->keys_per_get, o->value_size))
        broken("out of memory for %u keys", (unsigned)o->keys);
    raise_file_limit();
    prepare_clients(&load);

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
