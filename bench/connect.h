/* Opening the connections, and the one way in which everything that cannot go on ends. */
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

_Noreturn __attribute__((format(printf, 1, 2))) static inline void broken(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(EXIT_BROKEN);
}

static inline int connect_to(const struct options *o, const struct sockaddr *address, socklen_t length)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        broken("socket: %s", strerror(errno));
    /* A full backlog makes connect wait; the send timeout is what bounds it. Later sends never block anyway. */
    struct timeval patience = {.tv_sec = (time_t)o->stall_seconds};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, address, length) != 0) {
        bool too_late = errno == EINPROGRESS || errno == EAGAIN;
        broken("connect: %s", too_late ? "no answer in time" : strerror(errno));
    }
    int on = 1;
    if (address->sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static inline int connect_client(const struct options *o)
{
    if (o->unix_path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(o->unix_path) >= sizeof address.sun_path)
            usage_error("unix", "the path is too long");
        strcpy(address.sun_path, o->unix_path);
        return connect_to(o, (struct sockaddr *)&address, sizeof address);
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int problem = getaddrinfo(o->host, o->port, &hints, &found);
    if (problem)
        broken("%s:%s: %s", o->host, o->port, gai_strerror(problem));
    int fd = connect_to(o, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return fd;
}

/* As many files as the system lets us have, without a look at how many are needed. */
static inline void raise_file_limit(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

#endif
