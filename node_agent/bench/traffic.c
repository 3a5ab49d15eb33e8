/* The traffic of the benchmark: one role a process, one line of JSON on stdout. Compiled and run by bench/traffic.py.
 *
 *   sink PORT STREAMS WARM MS CPU      receive bulk TCP      {"bits": a second}
 *   source ADDR PORT STREAMS CPU       send until refused    {"retransmits"}
 *   udpsink PORT WARM MS CPU           receive datagrams     {"packets": a second}
 *   udpsource ADDR PORT MS CPU         send small datagrams  {"sent": a second}
 *   echo PORT PORTS CPU                send back what comes, TCP on PORT.. and UDP on PORT, until stdin ends
 *   rr ADDR PORT MS CPU                one byte there and back       {"p50", "p99": ns, "count"}
 *   connect ADDR PORT PORTS OPEN MS CPU   connect, 64 bytes, echo, RST  {"connections": a second, "errors"}
 *   first ADDR PORT BASE MS CPU        two datagrams a flow  {"first", "second", "first99": ns, "flows", "lost"}
 *
 * Roles that wait say "ready" first. CPU -1: wherever the scheduler likes. WARM, MS: milliseconds. TCP is cubic: the
 * kernel's default may pace, which hides what is to be measured, and a namespace may not change that default.
 * Linux only; every role ends by itself, at the latest by an alarm.
 */
#include "traffic.h"

static const struct role {
	const char *name;
	int arguments;
	int (*run)(char **argv);
} roles[] = {
	{"sink", 5, sink},	   {"source", 4, source}, {"udpsink", 4, udpsink},	  {"udpsource", 4, udpsource},
	{"echo", 3, echo},	   {"rr", 4, rr},	  {"connect", 6, connect_often}, {"first", 5, first},
};

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a killed benchmark leaves nobody behind */
	alarm(120);
	for (unsigned int i = 0; argc > 1 && i < sizeof(roles) / sizeof(*roles); i++)
		if (!strcmp(argv[1], roles[i].name) && argc == roles[i].arguments + 2)
			return roles[i].run(argv + 2);
	fprintf(stderr, "usage: traffic ROLE ARGUMENTS...: the roles are at the top of traffic.c\n");
	return 2;
}
