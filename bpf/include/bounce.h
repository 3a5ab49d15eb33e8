/* Step bounce: this host is asked. It checks the asker's word, finds the destination, and answers or passes on.
 *
 * Runs in XDP for queries from the wire, in TC where XDP is absent or could not send, and in the endpoint program when
 * asker and bouncer are one host.
 */
#ifndef MIZAR_BOUNCE_H
#define MIZAR_BOUNCE_H

#include "budget.h"
#include "divide.h"
#include "flow.h"
#include "service.h"

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

/* Is this query to be looked at at all? Before that nothing is spent, in nobody's name, and nothing is answered. 0, or the
 * reason why not. */
static __always_inline __u32 check_asker(const struct config *c, const struct packet *p)
{
	if (p->bits & WIRE_PASSED) {
		struct vpc_row *vpc = vpc_find(p->key.vni);

		if (!vpc || !vpc_accepts(vpc, p->from))
			return DROP_UNTRUSTED;
	} else if (p->asker != p->from) {
		return DROP_ASKER_MISMATCH;
	}
	return p->asker == p->self || underlay_host(c, p->asker) ? 0 : DROP_UNTRUSTED;
}

/* First leg: does the source live where the query comes from? 0 to go on, else the action to answer with. `own`: the
 * serving row of its subnet, which mostly is the destination's too. */
static __always_inline __u8 check_source(struct packet *p, struct serving_row **own, __be32 *own_subnet)
{
	struct endpoint_key key = {.vni = p->key.vni, .addr = p->key.src};
	struct endpoint_row *source = bpf_map_lookup_elem(&endpoints, &key);
	__be32 subnet;

	if (source) {
		*own_subnet = source->subnet;
		*own = serving_find(p->key.vni, source->subnet);
	}
	if (source && *own) {
		if (source->host != p->asker && source->next != p->asker)
			return ACTION_RETRY; /* this list may lag behind the endpoint's move */
		p->identity = source->identity;
		return 0;
	}
	if (divide_route(p->key.vni, &p->key.src, &subnet) && serving_find(p->key.vni, subnet))
		return ACTION_RETRY;
	return ACTION_NOT_SERVING;
}

/* The destination (or the backend chosen for it) is not among the endpoints known here. */
static __always_inline int bounce_unknown(struct packet *p, const struct addr *dst)
{
	struct vpc_row *vpc = vpc_find(p->key.vni);
	struct serving_row *serving_row;
	__be32 subnet, next;

	if (!vpc || !serving_find(p->key.vni, 0))
		return answer(p, ACTION_NOT_SERVING);
	if (!divide_route(p->key.vni, dst, &subnet))
		return answer(p, ACTION_UNKNOWN);
	serving_row = serving_find(p->key.vni, subnet);
	if (serving_row) {
		if (serving_row->stale)
			p->flags |= WIRE_STALE;
		return answer(p, ACTION_UNKNOWN);
	}
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

/* First leg, and the destination is no endpoint: for a service a backend is chosen. 0 to go on, else the action. */
static __always_inline __u8 check_service(struct packet *p)
{
	if (!serving_find(p->key.vni, 0))
		return 0; /* the services are not all known here; the destination will not be found either */
	switch (service_choose(p)) {
	case SERVICE_EMPTY:
		return ACTION_GONE;
	case SERVICE_PING:
		return ACTION_HERE;
	case SERVICE_EGRESS:
		return ACTION_EGRESS;
	default:
		return 0;
	}
}

/* First leg of a question that names the backend it has: 0 to go on, else the action. */
static __always_inline __u8 check_backend(const struct packet *p)
{
	struct backend_row *kept = service_keeps(p);

	if (!kept)
		return ACTION_GONE;
	return kept->flags & BACKEND_EGRESS ? ACTION_EGRESS : 0;
}

/* The endpoint that the packet is for, or the backend that stands for it. */
static __always_inline struct endpoint_row *bounce_find(const struct packet *p, struct endpoint_key *key)
{
	key->vni = p->key.vni;
	key->addr = p->key.dst;
	if (p->flags & WIRE_NATED)
		key->addr.w[3] = p->nat_addr;
	return bpf_map_lookup_elem(&endpoints, key);
}

/* A query that is known to be one's to answer takes four lookups: budget, source, serving, destination. */
__attribute__((noinline)) int step_bounce(struct packet *p)
{
	struct config *c = config_get();
	struct endpoint_key key = {};
	struct budget_key budget = {};
	struct serving_row *serving_row = NULL;
	struct endpoint_row *row;
	__be32 own_subnet = 0;
	__u8 refused;

	if (!p || !c)
		return STEP_DROP;
	p->reason = check_asker(c, p);
	if (p->reason)
		return STEP_DROP;
	budget.host = p->asker;
	budget.id = p->key.vni;
	if (c->busy_rate && p->asker != p->self &&
	    !budget_take(&budget, (p->length >> 2) + 1, c->busy_rate, c->busy_burst << 8, p->now)) {
		count(COUNTER_QUERIES_REFUSED_BUSY);
		return answer(p, ACTION_BUSY);
	}
	if (!(p->bits & WIRE_PASSED)) {
		refused = check_source(p, &serving_row, &own_subnet);
		if (!refused && p->flags & WIRE_NATED)
			refused = check_backend(p);
		if (refused)
			return answer(p, refused);
	}

	row = bounce_find(p, &key);
	/* VIPs lie outside of every subnet: an endpoint's address is no service's. */
	if (!row && !(p->bits & WIRE_PASSED) && !(p->flags & WIRE_NATED)) {
		refused = check_service(p);
		if (refused)
			return answer(p, refused);
		if (p->flags & WIRE_NATED)
			row = bounce_find(p, &key);
	}
	if (!row)
		return bounce_unknown(p, &key.addr);
	if (!serving_row || row->subnet != own_subnet)
		serving_row = serving_find(p->key.vni, row->subnet);
	if (!serving_row)
		return answer(p, ACTION_NOT_SERVING);
	if (serving_row->stale)
		p->flags |= WIRE_STALE;
	p->peer_tag = row->tag;
	p->target = row->host;
	/* A backend that speaks in mid-stream lost its entry: only a host that knows the flow may deliver this. */
	if (p->key.proto == IPPROTO_TCP && !(p->tcp_flags & TCP_SYN) && !(p->flags & WIRE_NATED) && service_backend(p))
		p->flags |= WIRE_REPLY;
	return answer(p, ACTION_ALLOW);
}

#endif
