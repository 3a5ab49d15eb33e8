/* What the roles of the benchmark's traffic share: clocks, sockets, quantiles. Included by bulk.c, requests.c, traffic.c. */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define SMALL 18 /* bytes of a datagram: a frame of 60 */

static inline void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline long check(long result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

static inline long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void pause_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&t, NULL);
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(sched_setaffinity(0, sizeof(set), &set), "pin to CPU");
}

static inline void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static inline struct sockaddr_in at(const char *address, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	a.sin_addr.s_addr = address ? inet_addr(address) : INADDR_ANY;
	return a;
}

static inline void set(int fd, int level, int option, int value)
{
	check(setsockopt(fd, level, option, &value, sizeof(value)), "setsockopt");
}

static inline void cubic(int fd)
{
	check(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5), "choose cubic");
}

static inline int listener(int port, int flags)
{
	struct sockaddr_in a = at(NULL, port);
	int fd = check(socket(AF_INET, SOCK_STREAM | flags, 0), "socket");

	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	cubic(fd);
	check(bind(fd, (void *)&a, sizeof(a)), "bind");
	check(listen(fd, 1024), "listen");
	return fd;
}

static inline int datagrams(int port)
{
	struct sockaddr_in a = at(NULL, port);
	int fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	check(bind(fd, (void *)&a, sizeof(a)), "bind");
	return fd;
}

static inline int connected(int type, const char *address, int port)
{
	struct sockaddr_in a = at(address, port);
	int fd = check(socket(AF_INET, type, 0), "socket");

	if (type == SOCK_STREAM)
		cubic(fd);
	check(connect(fd, (void *)&a, sizeof(a)), "connect");
	return fd;
}

static inline int ascending(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return x < y ? -1 : x > y;
}

static inline unsigned int quantile(unsigned int *samples, long count, double q)
{
	qsort(samples, count, sizeof(*samples), ascending);
	return count ? samples[(long)((count - 1) * q)] : 0;
}

static inline unsigned int *samples_new(long most)
{
	unsigned int *samples = malloc(most * sizeof(*samples));

	if (!samples)
		fail("allocate samples");
	return samples;
}

int sink(char **argv);
int source(char **argv);
int udpsink(char **argv);
int udpsource(char **argv);
int echo(char **argv);
int rr(char **argv);
int connect_often(char **argv);
int first(char **argv);

#endif
