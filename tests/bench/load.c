/*
 * Opens many event streams to a server on loopback and counts what arrives: one thread, epoll, no parsing beyond
 * looking for the ends of events. It must cost far less than any server, and know nothing of jobs.
 *
 *   load PORT PATH STREAMS SECONDS
 *
 * Prints one line of JSON: how many streams got their first bytes and after how many ms (the first, the last), then
 * the events and bytes of the window of SECONDS that begins one second after that, and its own CPU seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 256 /* connections that wait for their first byte */

struct stream { int fd; char last; char opened; };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) { perror(what); exit(1); }

static char request[512];
static struct sockaddr_in address;

static void open_stream(int poll, struct stream *one) {
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (one->fd < 0) die("socket");
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    if (write(one->fd, request, strlen(request)) < 0) die("write");
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = one };
    if (epoll_ctl(poll, EPOLL_CTL_ADD, one->fd, &event)) die("epoll_ctl");
}

/* Ends of events in these bytes; an end may lie across two reads. */
static long ends(struct stream *one, const char *bytes, ssize_t size) {
    long found = 0;
    char last = one->last;
    for (ssize_t i = 0; i < size; i++) {
        found += bytes[i] == '\n' && last == '\n';
        last = bytes[i];
    }
    one->last = last;
    return found;
}

int main(int count, char **given) {
    if (count != 5) return fprintf(stderr, "load PORT PATH STREAMS SECONDS\n"), 2;
    int wanted = atoi(given[3]);
    double seconds = atof(given[4]);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(given[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nAccept: text/event-stream\r\n\r\n", given[2], given[1]);
    struct rlimit files = { 65536, 65536 };
    setrlimit(RLIMIT_NOFILE, &files);
    struct stream *streams = calloc(wanted, sizeof *streams);
    int poll = epoll_create1(EPOLL_CLOEXEC), asked = 0, opened = 0, broken = 0;
    long events = 0, bytes = 0;
    static char buffer[1 << 18];
    double start = now(), first = 0, all = 0, from = 0, until = 1e18;
    while (now() < until) {
        while (asked < wanted && asked - opened < AT_ONCE) open_stream(poll, &streams[asked++]);
        struct epoll_event ready[512];
        int n = epoll_wait(poll, ready, 512, 20);
        if (!from && all && now() > all + 1) from = now(), until = from + seconds, events = bytes = 0;
        for (int i = 0; i < n; i++) {
            struct stream *one = ready[i].data.ptr;
            ssize_t size = read(one->fd, buffer, sizeof buffer);
            if (size <= 0 && errno != EAGAIN) { close(one->fd); broken++; continue; }
            if (size <= 0) continue;
            if (!one->opened) {
                one->opened = 1;
                if (!opened++) first = now();
                if (opened == wanted) all = now();
            }
            events += ends(one, buffer, size);
            bytes += size;
        }
        if (!all && now() > start + 120) break;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"opened\":%d,\"broken\":%d,\"first_ms\":%.1f,\"all_ms\":%.1f,\"events\":%ld,\"bytes\":%ld,\"cpu_s\":%.2f}\n",
           opened, broken, (first - start) * 1e3, (all - start) * 1e3, events, bytes, cpu);
    return 0;
}
