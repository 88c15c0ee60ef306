/* Opens the connections, and ends the program on an error that it cannot recover from. */
#ifndef CONNECT_H
#define CONNECT_H

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "options.h"

enum { SOURCE_ADDRESSES = 200 };

_Noreturn __attribute__((format(printf, 1, 2))) static inline void broken(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(EXIT_BROKEN);
}

/* The server, and the settings of new connections to it. */
struct target {
    struct sockaddr_storage address;
    socklen_t length;
    time_t patience; /* a full backlog makes connect wait; this limits the wait. Later sends never block. */
    unsigned connections;
};

static inline struct target find_target(const struct options *o)
{
    struct target target = {.patience = (time_t)o->stall_seconds};
    if (o->unix_path) {
        struct sockaddr_un *address = (struct sockaddr_un *)&target.address;
        address->sun_family = AF_UNIX;
        if (strlen(o->unix_path) >= sizeof address->sun_path)
            usage_error("unix", "the path is too long");
        strcpy(address->sun_path, o->unix_path);
        target.length = sizeof *address;
        return target;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int problem = getaddrinfo(o->host, o->port, &hints, &found);
    if (problem)
        broken("%s:%s: %s", o->host, o->port, gai_strerror(problem));
    memcpy(&target.address, found->ai_addr, found->ai_addrlen);
    target.length = found->ai_addrlen;
    freeaddrinfo(found);
    return target;
}

/* A closed connection occupies its pair of addresses for a minute. So connections to the loopback start from many
 * addresses of it in turn: each has 28,000 ports. */
static inline void bind_to_next_loopback(struct target *target, int fd)
{
    const struct sockaddr_in *to = (const struct sockaddr_in *)&target->address;
    if (to->sin_family != AF_INET || ntohl(to->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
        return;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + target->connections++ % SOURCE_ADDRESSES);
    int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        broken("bind: %s", strerror(errno));
}

static inline int connect_client(struct target *target)
{
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        broken("socket: %s", strerror(errno));
    struct timeval patience = {.tv_sec = target->patience};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    bind_to_next_loopback(target, fd);
    if (connect(fd, (struct sockaddr *)&target->address, target->length) != 0) {
        bool too_late = errno == EINPROGRESS || errno == EAGAIN;
        broken("connect: %s", too_late ? "no answer in time" : strerror(errno));
    }
    int on = 1;
    if (target->address.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Raises the open files limit to the maximum, whatever number is needed. */
static inline void raise_file_limit(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

#endif
