/* Step ask: this host has a packet of its own endpoint and no entry for it. It becomes a query to a bouncer. */
#ifndef MIZAR_ASK_H
#define MIZAR_ASK_H

#include "flow.h"
#include "liveness.h"
#include "nat.h"

/* Everything of a query but whom it goes to. */
static __always_inline void ask_write(struct packet *p)
{
	p->type = WIRE_QUERY;
	p->bits &= WIRE_ASK_ONLY | WIRE_SCOPE_MASK;
	p->flags &= p->bits & WIRE_ASK_ONLY ? WIRE_REPLY | WIRE_NATED : 0;
	p->action = ACTION_NONE;
	p->asker = p->self;
	p->identity = 0;
	if (!(p->flags & WIRE_NATED)) {
		p->nat_addr = 0;
		p->nat_port = 0;
	}
	count(COUNTER_QUERIES_SENT);
}

static __always_inline int ask_host(struct packet *p, __be32 host)
{
	if (!host)
		return drop(p, DROP_NO_BOUNCER);
	ask_write(p);
	p->to = host;
	if (host != p->self)
		return STEP_SEND;
	p->from = p->self;
	return STEP_BOUNCE;
}

__attribute__((noinline)) int step_ask(struct packet *p)
{
	struct config *c = config_get();
	struct subnet_key key = {};
	struct subnet_row *subnet;
	struct vpc_row *vpc;
	__u32 mask, n, probe = SET_PLACES;
	__be32 host;

	if (!p || !c)
		return STEP_DROP;
	vpc = vpc_find(p->key.vni);
	if (!vpc)
		return drop(p, DROP_NO_VPC);
	key.vni = p->key.vni;
	key.subnet = p->subnet;
	subnet = bpf_map_lookup_elem(&subnets, &key);
	mask = subnet ? subnet->bouncers & vpc->ask : 0;
	if (!mask)
		return drop(p, DROP_NO_BOUNCER);
	if (p->hop > c->hop_limit)
		return drop(p, DROP_HOP_LIMIT);
	mask = bouncers_alive(c, p, vpc, mask, &probe);
	n = places(mask);
	host = vpc_member(vpc, mask, (p->hash + p->attempt) % (n ? n : 1));
	if (host != p->self && subnet && (p->key.dst.w[3] & subnet->mask) == p->subnet)
		bouncer_asked(c, p, host);
	if (probe < SET_PLACES && !(p->hash >> 12 & 15) && !(p->bits & WIRE_ASK_ONLY))
		p->probe = probe;
	return ask_host(p, host);
}

/* A clone asks about an entry that is due. An entry made by the peer's packet asks in its own direction, as a reply. */
__attribute__((noinline)) int step_revalidate(struct packet *p)
{
	struct config *c = config_get();
	struct flow_entry *e;

	if (!p || !c)
		return STEP_DROP;
	e = flow_live(c, p, &p->key, p->own_tag);
	p->flags = e && e->flags & FLOW_LEARNED ? WIRE_REPLY : 0;
	if (!e) {
		struct nat_entry *n = nat_live(c, p, &p->key, p->own_tag);

		if (!n || !(n->kind & NAT_FORWARD))
			return STEP_END;
		e = &n->flow;
		if (!nat_beside(&p->key, n)) {
			p->flags = WIRE_NATED; /* asks after the backend it has */
			p->nat_addr = n->dst;
			p->nat_port = n->dport;
		}
	}
	p->bits = WIRE_ASK_ONLY;
	p->hop = 0;
	p->attempt = e->unanswered & 7;
	count(COUNTER_REVALIDATIONS);
	return STEP_ASK;
}

/* A clone asks a bouncer that was given up. */
__attribute__((noinline)) int step_probe(struct packet *p)
{
	struct config *c = config_get();
	struct bouncer_state *b;
	struct vpc_row *vpc;
	__be32 host;

	if (!p || !c)
		return STEP_DROP;
	vpc = vpc_find(p->key.vni);
	if (!vpc)
		return drop(p, DROP_NO_VPC);
	host = vpc->members[p->probe & (SET_PLACES - 1)];
	b = bouncer_find(host);
	if (!b || !b->dead || left_alone(c, b, p->now))
		return STEP_END; /* another clone was quicker */
	b->until = p->now + c->skip;
	p->bits = WIRE_ASK_ONLY;
	p->flags = 0;
	p->hop = c->hop_limit; /* its own answer is wanted, not another's */
	p->attempt = 0;
	count(COUNTER_BOUNCERS_PROBED);
	return ask_host(p, host);
}

#endif
