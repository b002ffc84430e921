/*
 * Opens many event streams to a server on loopback and counts what arrives: one thread, epoll, and only the beginning
 * of each line is parsed. It must cost far less than any server, and know nothing about jobs.
 *
 *   load PORT STREAMS FIRST [RECORD]
 *
 * It reads the paths of the streams from stdin, one a line, up to an empty one (stream i opens path i modulo their
 * number). When each stream has had FIRST events (0: the head of its response) it prints how long that took. Then it
 * reads orders: `window SECONDS 0` counts for SECONDS; `window SECONDS EVENTS` counts until EVENTS have arrived since
 * the previous window or all streams have ended, at most for SECONDS. It ends when stdin does. Each answer is one line
 * of JSON. RECORD is a file for (stream, id, ns of CLOCK_MONOTONIC) of every event. Heartbeats are not counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 256 /* connections that wait for their first bytes */

struct stream { int fd, open, events; unsigned length; uint32_t id; char head[24], data, beat; };
struct arrival { uint32_t stream, id; int64_t at; };

static struct stream *streams;
static char **paths;
static int wanted, known, first, asked, answered, opened, broken, port, poll;
static long events, bytes;
static FILE *record;
static int64_t read_at;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what) { perror(what); exit(1); }

static void open_stream(struct stream *one) {
    char request[512];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n",
                        paths[(one - streams) % known], port);
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (one->fd < 0) die("socket");
    if (connect(one->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    if (write(one->fd, request, size) < 0) die("write");
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = one };
    if (epoll_ctl(poll, EPOLL_CTL_ADD, one->fd, &event)) die("epoll_ctl");
}

static void arrived(struct stream *one) {
    events++;
    if (++one->events == first) opened++;
    if (record) {
        struct arrival what = { one - streams, one->id, read_at };
        fwrite(&what, sizeof what, 1, record);
    }
}

/* A line is complete; an empty one ends an event, if that has data. */
static void line(struct stream *one) {
    unsigned length = one->length;
    if (length && length <= sizeof one->head && one->head[length - 1] == '\r') length--;
    if (!length) {
        if (one->data && !one->beat) arrived(one);
        one->data = one->beat = 0;
    } else if (!strncmp(one->head, "data:", 5)) {
        one->data = 1;
    } else if (!strncmp(one->head, "event: heartbeat", 16)) {
        one->beat = 1;
    } else if (!strncmp(one->head, "id:", 3)) {
        one->id = strtoul(one->head + 3, NULL, 10);
    }
    one->length = 0;
}

static void feed(struct stream *one, const char *from, const char *end) {
    while (from < end) {
        const char *stop = memchr(from, '\n', end - from);
        size_t size = (stop ? stop : end) - from;
        if (one->length < sizeof one->head) {
            size_t room = sizeof one->head - one->length, part = size < room ? size : room;
            memcpy(one->head + one->length, from, part);
            if (part < room) one->head[one->length + part] = 0;
        }
        one->length += size;
        if (!stop) return;
        line(one);
        from = stop + 1;
    }
}

static void ready(struct stream *one) {
    static char buffer[1 << 18];
    ssize_t size = read(one->fd, buffer, sizeof buffer);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) { close(one->fd); broken++; return; }
    if (!one->open) {
        one->open = 1;
        answered++;
        opened += first == 0;
    }
    bytes += size;
    feed(one, buffer, buffer + size);
}

/* Read what is ready until this time, or until `most` events have arrived; an order on stdin waits. */
static void serve(int64_t until, long most) {
    struct epoll_event found[512];
    while (now() < until && (most < 0 || events < most)) {
        while (asked < wanted && asked - answered < AT_ONCE) open_stream(&streams[asked++]);
        int n = epoll_wait(poll, found, 512, 5);
        read_at = now();
        for (int i = 0; i < n; i++) ready(found[i].data.ptr);
        if (most < 0 && opened >= wanted) return;
        if (most < 1L << 60 && broken >= wanted) return; /* the server has ended all streams */
    }
}

/* Read the next order, or return NULL at the end of stdin; streams are read meanwhile. */
static char *order(char *text, int size) {
    fcntl(0, F_SETFL, O_NONBLOCK);
    for (int got = 0;;) {
        ssize_t n = read(0, text + got, size - 1 - got);
        if (n == 0) return NULL;
        if (n > 0) got += n;
        text[got] = 0;
        if (got && text[got - 1] == '\n') return text;
        serve(now() + 2000000, 1L << 60);
    }
}

int main(int count, char **given) {
    char text[512];
    double seconds;
    long most;
    if (count < 4) return fprintf(stderr, "load PORT STREAMS FIRST [RECORD]\n"), 2;
    port = atoi(given[1]), wanted = atoi(given[2]), first = atoi(given[3]);
    if (count > 4 && !(record = fopen(given[4], "wb"))) die(given[4]);
    while (fgets(text, sizeof text, stdin) && *text != '\n') {
        text[strcspn(text, "\n")] = 0;
        paths = realloc(paths, (known + 1) * sizeof *paths);
        paths[known++] = strdup(text);
    }
    streams = calloc(wanted, sizeof *streams);
    poll = epoll_create1(EPOLL_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int64_t start = now();
    while (opened < wanted && now() < start + 60000000000LL) serve(now() + 1000000000, -1);
    printf("{\"opened\":%d,\"seconds\":%.4f,\"cpu_s\":%.3f}\n", opened, (now() - start) / 1e9, cpu());
    while (order(text, sizeof text)) {
        if (sscanf(text, "window %lf %ld", &seconds, &most) != 2) return fprintf(stderr, "unknown order: %s", text), 2;
        double used = cpu();
        start = now();
        if (!most) events = bytes = 0;
        serve(start + (int64_t)(seconds * 1e9), most ? most : 1L << 60);
        printf("{\"events\":%ld,\"bytes\":%ld,\"broken\":%d,\"seconds\":%.4f,\"cpu_s\":%.3f}\n", events, bytes, broken,
               (now() - start) / 1e9, cpu() - used);
        events = bytes = 0;
    }
    if (record) fclose(record);
    return 0;
}
