/* Which bouncers answer, as far as this asking host has seen. Used by the steps ask and verdict.
 *
 * Only one-leg questions count against a bouncer: with two legs the silent one may be the other.
 */
#ifndef MIZAR_LIVENESS_H
#define MIZAR_LIVENESS_H

#include "vpc.h"

static __always_inline struct bouncer_state *bouncer_find(__be32 host)
{
	struct bouncer_key key = {.host = host};

	return bpf_map_lookup_elem(&bouncers, &key);
}

/* Is the bouncer to be left alone (or, a dead one, not to be probed)? It never is for longer than the longest of the two
 * times: an `until` that seems to be further ahead was never set, or is long past. */
static __always_inline int left_alone(const struct config *c, const struct bouncer_state *b, __u32 now)
{
	__u32 longest = c->skip > c->busy ? c->skip : c->busy;

	return b->until - now - 1 < longest;
}

/* The places of `mask` whose bouncers may be asked; all of them when none may. `probe`: place of a dead one whose time
 * for a probe has come, SET_PLACES for none. */
static __always_inline __u32 bouncers_alive(const struct config *c, const struct packet *p, const struct vpc_row *vpc,
					    __u32 mask, __u32 *probe)
{
	__u32 alive = mask;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SET_PLACES; i++) {
		struct bouncer_state *b;

		if (!(mask >> i & 1))
			continue;
		b = bouncer_find(vpc->members[i]);
		if (!b)
			continue;
		if (b->dead && !left_alone(c, b, p->now))
			*probe = i;
		if (b->dead || left_alone(c, b, p->now))
			alive &= ~(1 << i);
	}
	return alive ? alive : mask;
}

static __always_inline void bouncer_asked(const struct config *c, const struct packet *p, __be32 host)
{
	struct bouncer_state *b = bouncer_find(host), first = {.unanswered = 1, .first = p->now};
	struct bouncer_key key = {.host = host};

	if (!b) {
		bpf_map_update_elem(&bouncers, &key, &first, BPF_NOEXIST);
		return;
	}
	if (!b->unanswered++)
		b->first = p->now;
	if (!b->dead && b->unanswered > c->dead_queries && elapsed(p->now, b->first) > c->pending) {
		b->dead = 1;
		b->until = p->now + c->skip;
		count(COUNTER_BOUNCERS_SKIPPED);
	}
}

/* Any answer at all takes a bouncer back. */
static __always_inline void bouncer_answered(const struct config *c, const struct packet *p)
{
	struct bouncer_state *b = p->from == p->self ? NULL : bouncer_find(p->from);

	if (!b)
		return;
	b->unanswered = 0;
	if (p->action == ACTION_BUSY)
		b->until = p->now + c->busy;
	if (!b->dead)
		return;
	b->dead = 0;
	b->until = 0;
	count(COUNTER_BOUNCERS_BACK);
}

#endif
