/* Step ask: this host has a packet of its own endpoint and no entry for it. It becomes a query to a bouncer. */
#ifndef MIZAR_ASK_H
#define MIZAR_ASK_H

#include "vpc.h"

__attribute__((noinline)) int step_ask(struct packet *p)
{
	struct config *c = config_get();
	struct subnet_key key = {};
	struct subnet_row *subnet;
	struct vpc_row *vpc;
	__u32 mask, count_;
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
	count_ = places(mask);
	if (!count_)
		return drop(p, DROP_NO_BOUNCER);
	if (p->hop > c->hop_limit)
		return drop(p, DROP_HOP_LIMIT);
	host = vpc_member(vpc, mask, (p->hash + p->attempt) % count_);
	if (!host)
		return drop(p, DROP_NO_BOUNCER);

	p->type = WIRE_QUERY;
	p->flags &= WIRE_REPLY;
	p->bits &= WIRE_ASK_ONLY | WIRE_SCOPE_MASK;
	p->action = ACTION_NONE;
	p->asker = p->self;
	p->identity = 0;
	p->nat_addr = 0;
	p->nat_port = 0;
	p->to = host;
	count(COUNTER_QUERIES_SENT);
	if (host != p->self)
		return STEP_SEND;
	p->from = p->self;
	return STEP_BOUNCE;
}

#endif
