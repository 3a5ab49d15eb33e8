/* Roles that move as much as they can: sink, source, udpsink, udpsource. Their arguments: traffic.c. */
#include "traffic.h"

#define CHUNK (128 << 10)
#define STREAMS_MOST 64

/* --- bulk TCP --- */

struct stream {
	int fd;
	volatile long long bytes;
	pthread_t thread;
};

static void *receive_bulk(void *argument)
{
	struct stream *s = argument;
	char *buffer = malloc(CHUNK);
	ssize_t n;

	while (buffer && (n = recv(s->fd, buffer, CHUNK, 0)) > 0)
		s->bytes += n;
	return NULL;
}

static long long total(const struct stream *streams, int count)
{
	long long bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += streams[i].bytes;
	return bytes;
}

int sink(char **argv)
{
	static struct stream streams[STREAMS_MOST];
	int count = atoi(argv[1]), warm = atoi(argv[2]), ms = atoi(argv[3]), fd;
	long long began, bytes, ended;

	pin(atoi(argv[4]));
	fd = listener(atoi(argv[0]), 0);
	ready();
	for (int i = 0; i < count; i++) {
		streams[i].fd = check(accept(fd, NULL, NULL), "accept");
		pthread_create(&streams[i].thread, NULL, receive_bulk, &streams[i]);
	}
	pause_ms(warm);
	bytes = total(streams, count);
	began = now();
	pause_ms(ms);
	bytes = total(streams, count) - bytes;
	ended = now();
	printf("{\"bits\": %.0f}\n", bytes * 8e9 / (ended - began));
	return 0; /* sockets with unread bytes are reset, which ends the other side */
}

static void *send_bulk(void *argument)
{
	struct stream *s = argument;
	char *buffer = calloc(1, CHUNK);

	while (buffer && send(s->fd, buffer, CHUNK, MSG_NOSIGNAL) > 0)
		;
	return NULL;
}

int source(char **argv)
{
	static struct stream streams[STREAMS_MOST];
	int count = atoi(argv[2]);
	long retransmits = 0;

	pin(atoi(argv[3]));
	for (int i = 0; i < count; i++)
		streams[i].fd = connected(SOCK_STREAM, argv[0], atoi(argv[1]));
	for (int i = 0; i < count; i++)
		pthread_create(&streams[i].thread, NULL, send_bulk, &streams[i]);
	for (int i = 0; i < count; i++) {
		struct tcp_info info = {0};
		socklen_t size = sizeof(info);

		pthread_join(streams[i].thread, NULL);
		if (!getsockopt(streams[i].fd, IPPROTO_TCP, TCP_INFO, &info, &size))
			retransmits += info.tcpi_total_retrans;
	}
	printf("{\"retransmits\": %ld}\n", retransmits);
	return 0;
}

/* --- small datagrams --- */

static void messages(struct mmsghdr *m, struct iovec *v, char *bytes, int each)
{
	memset(m, 0, BATCH * sizeof(*m));
	for (int i = 0; i < BATCH; i++) {
		v[i] = (struct iovec){bytes + i * each, each};
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
}

static long receive_until(int fd, struct mmsghdr *m, long long end)
{
	long packets = 0;

	while (now() < end) {
		int n = recvmmsg(fd, m, BATCH, MSG_WAITFORONE, NULL); /* SO_RCVTIMEO bounds the wait */

		if (n > 0)
			packets += n;
	}
	return packets;
}

int udpsink(char **argv)
{
	static char bytes[BATCH * 64];
	struct timeval patience = {0, 20000};
	struct mmsghdr m[BATCH];
	struct iovec v[BATCH];
	int fd = datagrams(atoi(argv[0])), warm = atoi(argv[1]), ms = atoi(argv[2]);
	long long began;
	long packets;

	pin(atoi(argv[3]));
	messages(m, v, bytes, 64);
	set(fd, SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20);
	ready();
	check(recvmmsg(fd, m, 1, 0, NULL), "receive");
	check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), "setsockopt");
	receive_until(fd, m, now() + warm * 1000000LL);
	began = now();
	packets = receive_until(fd, m, began + ms * 1000000LL);
	printf("{\"packets\": %.0f}\n", packets * 1e9 / (now() - began));
	return 0;
}

int udpsource(char **argv)
{
	static char bytes[BATCH * SMALL];
	struct mmsghdr m[BATCH];
	struct iovec v[BATCH];
	int fd = connected(SOCK_DGRAM, argv[0], atoi(argv[1])), n;
	long long began = now(), end = began + atoi(argv[2]) * 1000000LL;
	long sent = 0;

	pin(atoi(argv[3]));
	messages(m, v, bytes, SMALL);
	while (now() < end) {
		n = sendmmsg(fd, m, BATCH, 0);
		if (n > 0)
			sent += n;
	}
	printf("{\"sent\": %.0f}\n", sent * 1e9 / (now() - began));
	return 0;
}
