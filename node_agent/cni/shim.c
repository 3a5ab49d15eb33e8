/* The CNI plugin: hands what a container runtime says to the host's warm agent, and the agent's answer back.
 *
 * Run by container runtimes, once per verb, as CNI 1.1 wants it: the verb and the container in the environment, the
 * network's configuration on stdin, a result or an error as JSON on stdout, exit code 0 or 1. It decides nothing:
 * node_agent/cni/protocol.py is what it speaks (one JSON line each way), node_agent/agent/plugin.py is who answers. The
 * container's network namespace goes along as a descriptor, so that the agent needs no view of the runtime's files.
 *
 * While the agent is away, ADD fails with "try again" and DEL is put on disk for it: a pod must be able to end.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "json.h"

#define DEFAULT_SOCKET "/run/mizar/agent.sock"
#define QUEUE "deleted"    /* folder beside the socket; cni/queue.py reads it */
#define QUEUE_MOST 4096    /* entries; beyond it DEL fails, and the runtime keeps it */
#define LONGEST (1 << 20)  /* bytes of a message, as in cni/client.py and agent/server.py */
#define LONGEST_ID 200     /* of a container; its queue entry is a file name */
#define PATIENCE 60        /* seconds without a byte from the agent */

enum { BAD_ENVIRONMENT = 4, UNKNOWN_CONTAINER = 3, UNREADABLE = 6, BAD_CONFIG = 7, TRY_AGAIN = 11, NOT_AVAILABLE = 50 };

/* What every error repeats: the version the runtime asked for. */
static char asked_version[16] = "1.1.0";

static void fail(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void write_all(int fd, const char *what, size_t length)
{
	while (length) {
		ssize_t done = write(fd, what, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		what += done;
		length -= (size_t)done;
	}
}

/* --- errors --- */

static void print_error(long code, const char *message)
{
	struct text out = {0};
	char number[32];

	add_plain(&out, "{\"cniVersion\":");
	add_quoted(&out, asked_version);
	snprintf(number, sizeof(number), ",\"code\":%ld", code);
	add_plain(&out, number);
	add_member(&out, "msg", message);
	add_plain(&out, "}\n");
	write_all(STDOUT_FILENO, out.at, out.length);
}

static void fail(int code, const char *format, ...)
{
	char message[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	print_error(code, message);
	exit(1);
}

/* --- what the runtime says --- */

static const char *environment(const char *name, int needed)
{
	const char *value = getenv(name);

	if ((!value || !*value) && needed)
		fail(BAD_ENVIRONMENT, "%s: not set, or empty", name);
	return value ? value : "";
}

static char *standard_input(void)
{
	struct text all = {0};
	char part[65536];

	add(&all, "", 0);
	for (;;) {
		ssize_t got = read(STDIN_FILENO, part, sizeof(part));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail(UNREADABLE, "read network configuration: %s", strerror(errno));
		if (!got)
			break;
		add(&all, part, (size_t)got);
		if (all.length > LONGEST / 2)
			fail(UNREADABLE, "read network configuration: longer than %d bytes", LONGEST / 2);
	}
	if (strlen(all.at) != all.length || !is_object(all.at))
		fail(UNREADABLE, "read network configuration: it is no JSON object");
	return all.at;
}

static void check_names(const char *container, const char *interface)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

	if (strspn(container, letters) != strlen(container) || strchr("_.-", *container) || strlen(container) > LONGEST_ID)
		fail(BAD_ENVIRONMENT, "CNI_CONTAINERID: '%.64s' is none: letters, digits, and _ . - after the first, at most %d",
		     container, LONGEST_ID);
	if (strlen(interface) > 15 || strpbrk(interface, "/: \t\r\n") || !strcmp(interface, ".") || !strcmp(interface, ".."))
		fail(BAD_ENVIRONMENT, "CNI_IFNAME: '%.64s' is no name of an interface", interface);
}

/* --- the queue of DELs --- */

static void sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static int entries(const char *path)
{
	DIR *folder = opendir(path);
	int found = -2; /* . and .. */

	if (!folder)
		return QUEUE_MOST;
	while (readdir(folder))
		found++;
	closedir(folder);
	return found;
}

/* The DEL will be done once the agent is back. Returns only then; the entry is whole or not there. */
static void put_off(const char *socket_path, const char *container, const char *interface, const char *why)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof(QUEUE)];
	char beside[sizeof(folder) + LONGEST_ID + 64], path[sizeof(beside)];
	struct text line = {0};
	int fd;

	snprintf(folder, sizeof(folder), "%s", socket_path);
	*strrchr(folder, '/') = 0;
	mkdir(folder, 0700); /* before the host's first agent; the next one fails when this one did */
	strcat(folder, "/" QUEUE);
	if (mkdir(folder, 0700) && errno != EEXIST)
		fail(TRY_AGAIN, "%s; and make %s: %s", why, folder, strerror(errno));
	if (entries(folder) >= QUEUE_MOST)
		fail(TRY_AGAIN, "%s; and %s holds %d removals already", why, folder, QUEUE_MOST);
	snprintf(path, sizeof(path), "%s/%s@%s", folder, container, interface);
	snprintf(beside, sizeof(beside), "%s/.%d-%s", folder, (int)getpid(), container);

	add_plain(&line, "{\"verb\":\"DEL\"");
	add_member(&line, "container_id", container);
	add_member(&line, "interface", interface);
	add_plain(&line, "}\n");
	unlink(beside);
	fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line.at, line.length) != (ssize_t)line.length || fsync(fd) || close(fd) ||
	    rename(beside, path)) {
		int error = errno;

		unlink(beside);
		fail(TRY_AGAIN, "%s; and write %s: %s", why, path, strerror(error));
	}
	sync_folder(folder);
}

/* --- the agent --- */

/* Sends the line, with the namespace if there is one (-1: none). 0, or the reason why not in errno. */
static int send_request(int agent, const struct text *line, int netns)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr aligned;
	} control = {0};
	struct iovec part = {.iov_base = line->at, .iov_len = line->length};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t sent;

	if (netns >= 0) {
		struct cmsghdr *header = &control.aligned;

		message.msg_control = control.room;
		message.msg_controllen = sizeof(control.room);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &netns, sizeof(int));
	}
	while (part.iov_len) {
		sent = sendmsg(agent, &message, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		part.iov_base = (char *)part.iov_base + sent;
		part.iov_len -= (size_t)sent;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return 0;
}

/* The agent's reply line; NULL with the reason in errno when there is no whole one. */
static char *ask(const char *path, const struct text *line, int netns)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = PATIENCE};
	struct text reply = {0};
	char part[65536];
	int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (agent < 0)
		return NULL;
	setsockopt(agent, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(agent, (struct sockaddr *)&address, sizeof(address)) || send_request(agent, line, netns))
		return NULL;
	while (reply.length < LONGEST && (!reply.length || reply.at[reply.length - 1] != '\n')) {
		ssize_t got = read(agent, part, sizeof(part));

		if (got < 0 && errno == EINTR)
			continue;
		if (!got)
			errno = ECONNRESET;
		if (got <= 0)
			return NULL;
		add(&reply, part, (size_t)got);
	}
	close(agent);
	if (strlen(reply.at) != reply.length || !is_object(reply.at)) {
		errno = EBADMSG;
		return NULL;
	}
	return reply.at;
}

static int print_reply(const char *reply)
{
	const char *code = member(reply, "code");
	char *message = string_at(member(reply, "message")), *result = string_at(member(reply, "result"));

	if (!code || !message || !result)
		fail(TRY_AGAIN, "the agent's answer cannot be understood");
	if (strtol(code, NULL, 10)) {
		print_error(strtol(code, NULL, 10), message);
		return 1;
	}
	if (*result) {
		write_all(STDOUT_FILENO, result, strlen(result));
		write_all(STDOUT_FILENO, "\n", 1);
	}
	return 0;
}

static int print_versions(void)
{
	struct text out = {0};

	add_plain(&out, "{\"cniVersion\":");
	add_quoted(&out, asked_version);
	add_plain(&out, ",\"supportedVersions\":[\"1.0.0\",\"1.1.0\"]}\n");
	write_all(STDOUT_FILENO, out.at, out.length);
	return 0;
}

static int open_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail(UNKNOWN_CONTAINER, "open network namespace %s: %s", path, strerror(errno));
	return fd;
}

int main(void)
{
	const char *verb = environment("CNI_COMMAND", 1), *container, *interface, *netns, *path;
	int adds = !strcmp(verb, "ADD"), checks = !strcmp(verb, "CHECK"), deletes = !strcmp(verb, "DEL");
	int status = !strcmp(verb, "STATUS"), namespace = -1;
	struct text line = {0};
	char *config, *given, *reply, why[512], began[32];
	struct timespec now;

	if (!adds && !checks && !deletes && !status && strcmp(verb, "GC") && strcmp(verb, "VERSION"))
		fail(BAD_ENVIRONMENT, "CNI_COMMAND: '%.32s' is none of ADD, DEL, CHECK, GC, STATUS, VERSION", verb);
	config = standard_input();
	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(began, sizeof(began), "%lld%09ld", (long long)now.tv_sec, now.tv_nsec);
	given = string_at(member(config, "cniVersion"));
	if (given && *given && strlen(given) < sizeof(asked_version))
		strcpy(asked_version, given);
	if (!strcmp(verb, "VERSION"))
		return print_versions();

	container = environment("CNI_CONTAINERID", adds || checks || deletes);
	interface = environment("CNI_IFNAME", adds || checks || deletes);
	netns = environment("CNI_NETNS", adds || checks);
	if (adds || checks || deletes)
		check_names(container, interface);
	given = string_at(member(config, "socket"));
	path = given ? given : DEFAULT_SOCKET;
	if (*path != '/' || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		fail(BAD_CONFIG, "socket: '%.128s' is no absolute path of a socket", path);
	if (adds || checks)
		namespace = open_namespace(netns);

	add_plain(&line, "{\"verb\":");
	add_quoted(&line, verb);
	add_member(&line, "container_id", container);
	add_member(&line, "interface", interface);
	add_member(&line, "sandbox", netns);
	add_member(&line, "args", environment("CNI_ARGS", 0));
	add_member(&line, "config", config);
	add_member(&line, "began", began);
	add_plain(&line, "}\n");
	if (line.length > LONGEST)
		fail(UNREADABLE, "read network configuration: it is too long");
	reply = ask(path, &line, namespace);
	if (reply)
		return print_reply(reply);
	snprintf(why, sizeof(why), "ask the agent at %s: %s", path, errno == EAGAIN ? "no answer in time" : strerror(errno));
	if (!deletes)
		fail(status ? NOT_AVAILABLE : TRY_AGAIN, "%s", why);
	put_off(path, container, interface, why);
	return 0;
}
