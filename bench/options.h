/* The command line of the load generator: one table of options, each checked against its bounds. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "keyspace.h"

enum {
    EXIT_ERRORS = 1, /* measured, but some replies were errors or wrong */
    EXIT_USAGE = 2,
    EXIT_BROKEN = 3, /* no connection, a closed one, a timeout, a reply to no request: nothing was measured */
};

enum {
    MAX_CLIENTS = 5000,
    MAX_PIPELINE = 1024,
    MAX_KEYS_PER_GET = 1024, /* limits the size of the bitmap of received keys that each client keeps */
    MAX_KEYS = 10000000,     /* fits KEY_DIGITS */
};
#define MAX_VALUES_IN_MEMORY ((uint64_t)1 << 30)

struct options {
    const char *host, *port, *unix_path, *protocol_name;
    enum protocol protocol;
    uint64_t clients, pipeline, gets_per_set, value_size, keys, first_key, keys_per_get, ops, warmup, seconds, stall_seconds, seed;
    bool get_only, reconnect, verify, preload, gate;
};

static const char USAGE[] =
    "usage: loadgen (--port PORT [--host HOST] | --unix PATH) [options]\n"
    "\n"
    "Loads a memcached server or proxy and prints one line of JSON.\n"
    "\n"
    "  --protocol NAME     text, meta or binary (text)\n"
    "  --clients N         connections (1)\n"
    "  --pipeline N        requests a client sends at once before it reads the answers (1)\n"
    "  --reconnect         a connection for each batch: connect, send, read the answers, close\n"
    "  --gets-per-set N    N gets to one set; 0 = only sets (10)\n"
    "  --get-only          no sets\n"
    "  --keys-per-get N    1 = single gets, more = multi-gets, of the text protocol alone; each is one operation (1)\n"
    "  --keys N            distinct keys (10000)\n"
    "  --first-key N       number of the first one: loads with keys of their own can run at once (0)\n"
    "  --value-size N      bytes (100)\n"
    "  --ops N             end after N counted operations (unlimited)\n"
    "  --seconds N         end the counted part after N seconds, however many operations are done (10)\n"
    "  --warmup N          operations before the counted ones (0)\n"
    "  --preload           set every key once before everything else\n"
    "  --verify            compare each value, byte by byte, with the one that belongs to its key\n"
    "  --seed N            of the key choice (1)\n"
    "  --stall-seconds N   give up when one client makes no progress for so long (10)\n"
    "  --gate              print \"ready\" after the warm-up and wait for a line on stdin; after the JSON wait for\n"
    "                      another before hanging up: so the server's CPU can be read around the counted part\n"
    "\n"
    "exit status: 0 fine; 1 some answers were errors or wrong; 2 usage; 3 connection lost, stalled or out of step\n";

_Noreturn static inline void usage_error(const char *option, const char *problem)
{
    fprintf(stderr, "loadgen: %s: %s\n", option, problem);
    exit(EXIT_USAGE);
}

static inline uint64_t number(const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < least || value > most) {
        char problem[128];
        snprintf(problem, sizeof problem, "\"%.40s\" is not a number from %llu to %llu", text,
                 (unsigned long long)least, (unsigned long long)most);
        usage_error(option, problem);
    }
    return value;
}

static inline struct options parse_options(int argc, char **argv)
{
    struct options o = {
        .host = "127.0.0.1", .protocol_name = "text", .clients = 1, .pipeline = 1, .gets_per_set = 10, .value_size = 100,
        .keys = 10000, .keys_per_get = 1, .ops = UINT64_MAX, .seconds = 10, .stall_seconds = 10, .seed = 1,
    };
    const struct { const char *name; uint64_t *value, least, most; } numbers[] = {
        {"clients", &o.clients, 1, MAX_CLIENTS},
        {"pipeline", &o.pipeline, 1, MAX_PIPELINE},
        {"gets-per-set", &o.gets_per_set, 0, UINT32_MAX},
        {"keys-per-get", &o.keys_per_get, 1, MAX_KEYS_PER_GET},
        {"keys", &o.keys, 1, MAX_KEYS},
        {"first-key", &o.first_key, 0, MAX_KEYS},
        {"value-size", &o.value_size, 0, 64 << 20},
        {"ops", &o.ops, 0, UINT64_MAX},
        {"seconds", &o.seconds, 1, 86400},
        {"warmup", &o.warmup, 0, UINT64_MAX},
        {"seed", &o.seed, 0, UINT64_MAX - 1},
        {"stall-seconds", &o.stall_seconds, 1, 3600},
    };
    const struct { const char *name; const char **value; } texts[] = {
        {"host", &o.host}, {"port", &o.port}, {"unix", &o.unix_path}, {"protocol", &o.protocol_name},
    };
    const struct { const char *name; bool *value; } switches[] = {
        {"get-only", &o.get_only}, {"reconnect", &o.reconnect}, {"verify", &o.verify}, {"preload", &o.preload}, {"gate", &o.gate},
    };
    enum {
        NUMBERS = sizeof numbers / sizeof *numbers,
        TEXTS = sizeof texts / sizeof *texts,
        SWITCHES = sizeof switches / sizeof *switches,
    };
    struct option table[NUMBERS + TEXTS + SWITCHES + 2] = {0};
    struct option *row = table;
    for (int i = 0; i < NUMBERS; i++)
        *row++ = (struct option){numbers[i].name, required_argument, NULL, 0};
    for (int i = 0; i < TEXTS; i++)
        *row++ = (struct option){texts[i].name, required_argument, NULL, 0};
    for (int i = 0; i < SWITCHES; i++)
        *row++ = (struct option){switches[i].name, no_argument, NULL, 0};
    *row = (struct option){"help", no_argument, NULL, 0};

    int index, code;
    while ((code = getopt_long(argc, argv, "", table, &index)) != -1) {
        if (code == '?')
            exit(EXIT_USAGE);
        if (index < NUMBERS) {
            *numbers[index].value = number(numbers[index].name, optarg, numbers[index].least, numbers[index].most);
        } else if ((index -= NUMBERS) < TEXTS) {
            *texts[index].value = optarg;
        } else if ((index -= TEXTS) < SWITCHES) {
            *switches[index].value = true;
        } else {
            fputs(USAGE, stdout);
            exit(0);
        }
    }
    if (optind < argc)
        usage_error(argv[optind], "is not an option");
    if (!o.port == !o.unix_path)
        usage_error("target", "give either --port or --unix");
    while (strcmp(o.protocol_name, WORDINGS[o.protocol].name) != 0)
        if (++o.protocol == PROTOCOLS)
            usage_error("protocol", "is none of text, meta and binary");
    if (o.keys_per_get > 1 && o.protocol != TEXT)
        usage_error("keys-per-get", "only the text protocol gets many keys at once here");
    if (o.keys_per_get > o.keys)
        usage_error("keys-per-get", "more than there are keys");
    if (o.keys * o.value_size > MAX_VALUES_IN_MEMORY)
        usage_error("keys", "keys * value-size is more than 1 GiB");
    if (o.verify && o.value_size < KEY_DIGITS)
        usage_error("verify", "the value is too small to hold the number of its key");
    return o;
}

#endif
