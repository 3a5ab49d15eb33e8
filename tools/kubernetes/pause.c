// The process that holds a pod's namespaces: it waits to be told to end, and reaps what the pod's other processes leave
// when they share its pid namespace. Built by tools/setup/kubernetes.sh into a static file; the image of it is made by
// node_agent/emulation/cluster/images.py.
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

static void reap(int number)
{
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction ending = {.sa_handler = end};
	struct sigaction reaping = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP | SA_RESTART};

	// Pid 1 has no default actions: without a handler SIGTERM would do nothing.
	if (sigaction(SIGTERM, &ending, NULL) || sigaction(SIGINT, &ending, NULL) || sigaction(SIGCHLD, &reaping, NULL))
		return 1;
	for (;;)
		pause();
}
