/* Roles that ask and answer: echo, rr, connect, first. Their arguments: traffic.c. */
#include "traffic.h"

#define REQUEST 64
#define FLOWS_A_PORT 8192 /* then the next port: every connection of a run is a flow of its own */
#define FLOWS_MOST 4000
#define SAMPLES_MOST (1 << 22)
#define FDS_MOST 4096

/* --- requests --- */

static void watch(int epoll, int operation, int fd, unsigned int events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	check(epoll_ctl(epoll, operation, fd, &e), "epoll_ctl");
}

static void echo_datagram(int fd)
{
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	char buffer[2048];
	ssize_t n = recvfrom(fd, buffer, sizeof(buffer), MSG_DONTWAIT, (void *)&from, &size);

	if (n >= 0)
		sendto(fd, buffer, n, 0, (void *)&from, size);
}

int echo(char **argv)
{
	static char listens[FDS_MOST];
	int port = atoi(argv[0]), ports = atoi(argv[1]), epoll = check(epoll_create1(0), "epoll"), udp = datagrams(port);
	struct epoll_event events[BATCH];
	char buffer[2048];

	pin(atoi(argv[2]));
	watch(epoll, EPOLL_CTL_ADD, 0, EPOLLIN);
	watch(epoll, EPOLL_CTL_ADD, udp, EPOLLIN);
	for (int i = 0; i < ports; i++) {
		int fd = listener(port + i, SOCK_NONBLOCK);

		listens[fd] = 1;
		watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN);
	}
	ready();
	for (;;) {
		int n = epoll_wait(epoll, events, BATCH, -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd, accepted;
			ssize_t got;

			if (fd == 0)
				return 0;
			if (fd == udp) {
				echo_datagram(fd);
			} else if (listens[fd]) {
				while ((accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					if (accepted >= FDS_MOST) {
						close(accepted);
						continue;
					}
					set(accepted, IPPROTO_TCP, TCP_NODELAY, 1);
					watch(epoll, EPOLL_CTL_ADD, accepted, EPOLLIN);
				}
			} else if ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
				send(fd, buffer, got, MSG_NOSIGNAL);
			} else if (got == 0 || errno != EAGAIN) {
				close(fd);
			}
		}
	}
}

int rr(char **argv)
{
	unsigned int *samples = samples_new(SAMPLES_MOST), p50;
	long long before, after, begun, warm, end;
	long count = 0;
	char byte = 'x';
	int fd;

	pin(atoi(argv[3]));
	fd = connected(SOCK_STREAM, argv[0], atoi(argv[1]));
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	begun = now();
	warm = begun + 50000000LL;
	end = warm + atoi(argv[2]) * 1000000LL;
	/* On a machine that starves us one round trip may outlast the whole time: it is the figure then. */
	for (before = begun; (before < end || !count) && count < SAMPLES_MOST; before = after) {
		check(send(fd, &byte, 1, MSG_NOSIGNAL), "send");
		if (recv(fd, &byte, 1, 0) != 1)
			fail("receive");
		after = now();
		if (before >= warm)
			samples[count++] = after - before;
	}
	p50 = quantile(samples, count, 0.5);
	printf("{\"p50\": %u, \"p99\": %u, \"count\": %ld}\n", p50, quantile(samples, count, 0.99), count);
	return 0;
}

/* --- connections --- */

struct connections {
	int epoll, port, ports;
	const char *address;
	long begun, done, errors;
};

static void connection_open(struct connections *c)
{
	struct sockaddr_in a = at(c->address, c->port + c->begun++ / FLOWS_A_PORT % c->ports);
	int fd = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

	cubic(fd);
	if (connect(fd, (void *)&a, sizeof(a)) && errno != EINPROGRESS)
		fail("connect");
	watch(c->epoll, EPOLL_CTL_ADD, fd, EPOLLOUT);
}

static void connection_step(struct connections *c, int fd, unsigned int events)
{
	static char request[REQUEST];
	struct linger reset = {1, 0};
	char answer[REQUEST];

	if (!(events & EPOLLERR) && events & EPOLLOUT) {
		if (send(fd, request, REQUEST, MSG_NOSIGNAL) == REQUEST) {
			watch(c->epoll, EPOLL_CTL_MOD, fd, EPOLLIN);
			return;
		}
		c->errors++;
	} else if (!(events & EPOLLERR) && recv(fd, answer, REQUEST, 0) == REQUEST) {
		c->done++;
	} else {
		c->errors++;
	}
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	connection_open(c);
}

int connect_often(char **argv)
{
	struct connections c = {.address = argv[0], .port = atoi(argv[1]), .ports = atoi(argv[2])};
	struct epoll_event events[BATCH];
	int open = atoi(argv[3]);
	long long began, end;

	pin(atoi(argv[5]));
	c.epoll = check(epoll_create1(0), "epoll");
	for (int i = 0; i < open; i++)
		connection_open(&c);
	began = now();
	end = began + atoi(argv[4]) * 1000000LL;
	while (now() < end) {
		int n = epoll_wait(c.epoll, events, BATCH, 10);

		for (int i = 0; i < n; i++)
			connection_step(&c, events[i].data.fd, events[i].events);
	}
	printf("{\"connections\": %.0f, \"errors\": %ld, \"done\": %ld}\n", c.done * 1e9 / (now() - began), c.errors, c.done);
	return 0;
}

/* --- the first packet of a flow --- */

static long round_trip(int fd)
{
	char bytes[SMALL] = {0};
	long long before = now();

	if (send(fd, bytes, SMALL, 0) != SMALL || recv(fd, bytes, SMALL, 0) != SMALL)
		return -1;
	return now() - before;
}

int first(char **argv)
{
	unsigned int *firsts = samples_new(FLOWS_MOST), *seconds = samples_new(FLOWS_MOST), p50;
	long long end = now() + atoi(argv[3]) * 1000000LL;
	struct timeval patience = {0, 200000};
	long count = 0, flows = 0, lost = 0;

	pin(atoi(argv[4]));
	for (; flows < FLOWS_MOST && now() < end; flows++) {
		struct sockaddr_in own = at(NULL, atoi(argv[2]) + flows), peer = at(argv[0], atoi(argv[1]));
		int fd = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
		long one, two;

		check(bind(fd, (void *)&own, sizeof(own)), "bind");
		check(connect(fd, (void *)&peer, sizeof(peer)), "connect");
		check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), "setsockopt");
		one = round_trip(fd);
		two = one < 0 ? -1 : round_trip(fd);
		close(fd);
		if (two < 0) {
			lost++;
			continue;
		}
		firsts[count] = one;
		seconds[count++] = two;
	}
	if (!count) {
		fprintf(stderr, "first: none of %ld flows had its datagrams answered\n", flows);
		return 1;
	}
	p50 = quantile(firsts, count, 0.5);
	printf("{\"first\": %u, \"second\": %u, \"first99\": %u, \"flows\": %ld, \"lost\": %ld}\n", p50,
	       quantile(seconds, count, 0.5), quantile(firsts, count, 0.99), flows, lost);
	return 0;
}
