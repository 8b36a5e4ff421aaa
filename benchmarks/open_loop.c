/* An open-loop load generator: requests are sent when they are due, whether or not earlier ones have been answered.

   open_loop PORT FILE RATE SECONDS CONNECTIONS

   FILE has whole requests, each behind its length as a line of its own; they are sent in turn. Due times are those of a
   Poisson process; the first second's are not counted. A request takes a connection that has none under way; where there is none it waits for one. Its time
   counts from when it was due, so that waiting here is not left out. One line of JSON: answers by status, milliseconds of
   the successes and of the refusals, requests that were due and never sent, and this process's share of a core. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 16384
#define MOST 8000000

typedef struct { int fd; double due; int have; int missing; int status; int busy; char head[ROOM]; } Connection;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t state = 88172645463325252ull;
static double uniform(void) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (state >> 11) * 0x1p-53;
}

static void die(const char *what) { perror(what); exit(1); }

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *times, long n, double q) { return n ? times[(long)(q * (n - 1))] * 1e3 : 0; }

static void dial(Connection *c, int port, int poll) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
    c->have = c->missing = c->busy = 0;
}

/* Takes what has come; whether an answer is whole. */
static int take(Connection *c) {
    for (;;) {
        char *at = c->missing ? c->head : c->head + c->have;
        ssize_t got = recv(c->fd, at, c->missing ? ROOM - 1 : ROOM - 1 - c->have, 0);
        if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
        if (c->missing) {
            c->missing -= got;
        } else {
            c->have += got;
            c->head[c->have] = 0;
            char *end = strstr(c->head, "\r\n\r\n"), *length;
            if (!end) continue;
            if (!(length = strcasestr(c->head, "content-length: ")) || length > end) return -1;
            c->status = atoi(c->head + 9);
            c->missing = atoi(length + 16) - (c->have - (int)(end + 4 - c->head));
        }
        if (c->missing == 0) { c->have = 0; return 1; }
    }
}

int main(int n, char **given) {
    if (n != 6) { fprintf(stderr, "open_loop PORT FILE RATE SECONDS CONNECTIONS\n"); return 2; }
    int port = atoi(given[1]), many = atoi(given[5]), requests = 0, poll = epoll_create1(0);
    double rate = atof(given[3]), seconds = atof(given[4]);
    static char *bodies[4096];
    static int sizes[4096];
    FILE *file = fopen(given[2], "rb");
    if (!file) die(given[2]);
    while (requests < 4096 && fscanf(file, "%d", &sizes[requests]) == 1) {
        fgetc(file);
        bodies[requests] = malloc(sizes[requests]);
        if (fread(bodies[requests], 1, sizes[requests], file) != (size_t)sizes[requests]) die("read");
        requests++;
    }
    Connection *all = calloc(many, sizeof *all), **idle = malloc(many * sizeof *idle);
    double *good = malloc(MOST * sizeof *good), *bad = malloc(MOST * sizeof *bad);
    long successes = 0, refusals = 0, others = 0, lost = 0, sent = 0, skipped = 0;
    int idles = 0;
    for (int i = 0; i < many; i++) { dial(&all[i], port, poll); idle[idles++] = &all[i]; }
    double begin = now(), end = begin + 1 + seconds, due = begin, time = begin;
    struct epoll_event events[1024];
    while (time < end + 3 && (time < end || idles < many)) {
        while (due < end && due <= (time = now()) && idles) {
            Connection *c = idle[--idles];
            int which = sent++ % requests;
            c->due = due;
            c->busy = 1;
            if (send(c->fd, bodies[which], sizes[which], MSG_NOSIGNAL) != sizes[which]) {
                lost++; close(c->fd); dial(c, port, poll); idle[idles++] = c;
            }
            due -= log(1 - uniform()) / rate;
        }
        double wait = idles && due < end ? due - now() : 0.05;
        int found = epoll_wait(poll, events, 1024, wait <= 0 ? 0 : wait < 0.002 ? 0 : (int)(wait * 1000));
        time = now();
        for (int i = 0; i < found; i++) {
            Connection *c = events[i].data.ptr;
            int whole = take(c);
            if (!whole) continue;
            if (whole < 0) { lost += c->busy; close(c->fd); dial(c, port, poll); idle[idles++] = c; continue; }
            double took = now() - c->due;
            if (c->due < begin + 1) skipped++;
            else if (c->status == 200 && successes < MOST) good[successes++] = took;
            else if (c->status == 503 && refusals < MOST) bad[refusals++] = took;
            else others++;
            c->busy = 0;
            idle[idles++] = c;
        }
    }
    long unsent = 0;
    while (due < end) { unsent++; due -= log(1 - uniform()) / rate; }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    qsort(good, successes, sizeof *good, by_size);
    qsort(bad, refusals, sizeof *bad, by_size);
    printf("{\"sent\": %ld, \"skipped\": %ld, \"unsent\": %ld, \"lost\": %ld, \"successes\": %ld, \"refusals\": %ld, \"others\": %ld, "
           "\"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"refused_p50\": %.3f, \"refused_p99\": %.3f, \"busy\": %.3f}\n",
           sent, skipped, unsent, lost, successes, refusals, others, quantile(good, successes, 0.5),
           quantile(good, successes, 0.99), quantile(good, successes, 0.999), quantile(bad, refusals, 0.5),
           quantile(bad, refusals, 0.99), cpu / (now() - begin));
    return 0;
}
