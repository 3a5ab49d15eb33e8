/* Step bounce: this host is asked. It checks the asker's word, finds the destination, and answers or passes on.
 *
 * Runs in XDP for queries from the wire, in TC where XDP is absent or could not send, and in the endpoint program when
 * asker and bouncer are one host.
 */
#ifndef MIZAR_BOUNCE_H
#define MIZAR_BOUNCE_H

#include "divide.h"

/* Counts what this host did with a query, once it is certain: XDP may still leave the sending to TC. */
static __always_inline void bounce_count(const struct packet *p)
{
	if (p->type == WIRE_QUERY)
		count(COUNTER_QUERIES_PASSED);
	else if (p->to == p->self)
		count(COUNTER_QUERIES_ANSWERED_LOCAL);
	else
		count(p->hook == HOOK_XDP ? COUNTER_QUERIES_ANSWERED_XDP : COUNTER_QUERIES_ANSWERED_TC);
}

/* Sends the verdict to the asking host; other actions than ALLOW leave the query's fields in place. */
static __always_inline int answer(struct packet *p, __u8 action)
{
	p->type = WIRE_VERDICT;
	p->action = action;
	p->to = p->asker;
	if (p->hook != HOOK_XDP)
		bounce_count(p);
	if (p->asker != p->self)
		return STEP_SEND;
	p->from = p->self;
	return STEP_VERDICT;
}

/* First leg: does the source live where the query comes from? 0 to go on, else the action to answer with. */
static __always_inline __u8 check_source(struct packet *p)
{
	struct endpoint_key key = {.vni = p->key.vni, .addr = p->key.src};
	struct endpoint_row *source = bpf_map_lookup_elem(&endpoints, &key);
	__be32 subnet;

	if (source && serving_find(p->key.vni, source->subnet)) {
		if (source->host != p->asker)
			return ACTION_RETRY; /* this list may lag behind the endpoint's move */
		p->identity = source->identity;
		return 0;
	}
	if (divide_route(p->key.vni, &p->key.src, &subnet) && serving_find(p->key.vni, subnet))
		return ACTION_RETRY;
	return ACTION_NOT_SERVING;
}

/* The destination is not among the endpoints known here. */
static __always_inline int bounce_unknown(struct packet *p, const struct vpc_row *vpc)
{
	__be32 subnet, next;

	if (!serving_find(p->key.vni, 0))
		return answer(p, ACTION_NOT_SERVING);
	if (!divide_route(p->key.vni, &p->key.dst, &subnet))
		return answer(p, ACTION_UNKNOWN);
	if (serving_find(p->key.vni, subnet))
		return answer(p, ACTION_UNKNOWN);
	if (p->bits & WIRE_PASSED)
		return answer(p, ACTION_NOT_SERVING);
	next = divide_bouncer(p, vpc, subnet);
	if (!next || next == p->self)
		return answer(p, ACTION_NOT_SERVING);
	p->bits |= WIRE_PASSED;
	p->to = next;
	if (p->hook != HOOK_XDP)
		bounce_count(p);
	return STEP_SEND;
}

__attribute__((noinline)) int step_bounce(struct packet *p)
{
	struct endpoint_key key = {};
	struct endpoint_row *row;
	struct vpc_row *vpc;
	__u8 refused;

	if (!p)
		return STEP_DROP;
	vpc = vpc_find(p->key.vni);
	if (p->bits & WIRE_PASSED) {
		if (!vpc || !vpc_accepts(vpc, p->from))
			return drop(p, DROP_UNTRUSTED);
	} else {
		if (p->asker != p->from)
			return drop(p, DROP_ASKER_MISMATCH);
		if (!vpc)
			return answer(p, ACTION_NOT_SERVING);
		refused = check_source(p);
		if (refused)
			return answer(p, refused);
	}

	key.vni = p->key.vni;
	key.addr = p->key.dst;
	row = bpf_map_lookup_elem(&endpoints, &key);
	if (!row)
		return bounce_unknown(p, vpc);
	if (!serving_find(p->key.vni, row->subnet))
		return answer(p, ACTION_NOT_SERVING);
	p->peer_tag = row->tag;
	p->target = row->host;
	return answer(p, ACTION_ALLOW);
}

#endif
