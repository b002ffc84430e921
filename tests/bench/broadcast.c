/*
 * The least that a server of event streams can do: one thread, epoll, one send(2) for each stream and event. Its cost
 * is the kernel's, which no server can undercut without sending less. It must not be clever.
 *
 *   broadcast PORT
 *
 * It reads orders from stdin: `publish RATE COUNT SIZE` sends events with SIZE bytes of data, RATE a second (0: as fast
 * as the streams take them), COUNT in all (0: until the next order). It ends when stdin does. Sends block, so a slow
 * reader slows down all: nothing is dropped or queued.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 65536

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: open\n\n";
static char streaming[MOST];
static int highest;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) { perror(what); exit(1); }

static void broadcast(long id, int size) {
    static char event[70000];
    int length = sprintf(event, "id: %ld\nevent: job\ndata: {\"pad\":\"", id);
    memset(event + length, 'x', size - 10);
    length += size - 10;
    length += sprintf(event + length, "\"}\n\n");
    for (int fd = 0; fd <= highest; fd++)
        if (streaming[fd] && send(fd, event, length, MSG_NOSIGNAL) < 0) streaming[fd] = 0, close(fd);
}

static void readable(int fd) {
    char request[4096];
    if (read(fd, request, sizeof request) <= 0) {
        streaming[fd] = 0;
        close(fd);
    } else if (!streaming[fd] && send(fd, head, sizeof head - 1, MSG_NOSIGNAL) > 0) {
        streaming[fd] = 1;
        if (fd > highest) highest = fd;
    }
}

int main(int count, char **given) {
    if (count != 2) return fprintf(stderr, "broadcast PORT\n"), 2;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(given[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) die("bind");
    struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, found[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = 0;
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &event);
    printf("/\n\n"), fflush(stdout);
    double rate = 0;
    long left = 0, id = 0;
    int size = 300;
    int64_t due = INT64_MAX;
    for (;;) {
        int64_t wait = due == INT64_MAX ? 1000 : (due - now()) / 1000000;
        int n = epoll_wait(poll, found, 512, wait < 0 ? 0 : wait);
        for (int i = 0; i < n; i++) {
            int fd = found[i].data.fd;
            if (fd == listener) {
                event.data.fd = accept(listener, NULL, NULL);
                setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
            } else if (fd == 0) {
                char text[256];
                ssize_t got = read(0, text, sizeof text - 1);
                if (got <= 0) return 0;
                text[got] = 0;
                if (sscanf(text, "publish %lf %ld %d", &rate, &left, &size) == 3) due = now(), left = left ? left : -1;
            } else {
                readable(fd);
            }
        }
        while (left && now() >= due) {
            broadcast(++id, size);
            due += rate ? (int64_t)(1e9 / rate) : 0;
            if (left > 0) left--;
            if (!rate) break; /* read orders in between */
        }
        if (!left) due = INT64_MAX;
    }
}
