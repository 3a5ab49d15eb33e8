/* The core: runs steps until the packet leaves this host, reaches an endpoint, or ends. Same code in XDP and TC.
 *
 * A step whose host is this host is the next turn of this loop, so asker, bouncer, divider and target may be one.
 */
#ifndef MIZAR_CORE_H
#define MIZAR_CORE_H

#include "ask.h"
#include "bounce.h"
#include "egress.h"
#include "leave.h"
#include "verdict.h"

/* Longest useful run: not here on this very host, asked anew of this host's own bouncer, refused by it, asked again. */
#define CORE_TURNS 24

static __always_inline int core_run(struct packet *p, int step)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < CORE_TURNS; i++) {
		switch (step) {
		case STEP_EGRESS:
			step = step_egress(p);
			break;
		case STEP_REVALIDATE:
			step = step_revalidate(p);
			break;
		case STEP_PROBE:
			step = step_probe(p);
			break;
		case STEP_ASK:
			step = step_ask(p);
			break;
		case STEP_BOUNCE:
			step = step_bounce(p);
			break;
		case STEP_VERDICT:
			step = step_verdict(p);
			break;
		case STEP_LEAVE:
			step = step_leave(p);
			break;
		case STEP_ARRIVE:
			step = step_arrive(p);
			break;
		case STEP_NOT_HERE:
			step = step_not_here(p);
			break;
		default:
			return step;
		}
	}
	return drop(p, DROP_HOP_LIMIT);
}

#endif
