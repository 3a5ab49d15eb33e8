/* Steps arrive and not-here: data at the host that should have its destination, and what happens when it has not. */
#ifndef MIZAR_DELIVER_H
#define MIZAR_DELIVER_H

#include "flow.h"
#include "vpc.h"

static __always_inline struct local_row *local_find(__u32 vni, const struct addr *addr)
{
	struct endpoint_key key = {.vni = vni, .addr = *addr};

	return bpf_map_lookup_elem(&locals, &key);
}

/* Sends the packet as data to `host`; on a host of its own it arrives in the same run. */
static __always_inline int forward(struct packet *p, __be32 host, __be16 peer_tag)
{
	p->type = WIRE_DATA;
	p->action = ACTION_NONE;
	p->flags &= WIRE_REPLY;
	p->bits = 0;
	p->attempt = 0;
	p->life = 0;
	p->peer_tag = peer_tag;
	p->to = host;
	if (host == p->self) {
		p->from = p->self;
		return STEP_ARRIVE;
	}
	count(COUNTER_DATA_SENT);
	return STEP_SEND;
}

/* The reply's entry, from what was seen: replies need no query. A live entry keeps its host. */
static __always_inline void learn(const struct config *c, struct packet *p, __be16 owner_tag)
{
	struct flow_key back = reversed(&p->key);
	struct flow_entry *e = flow_live(c, p, &back, owner_tag);

	if (e) {
		flow_touch(e, p);
		return;
	}
	if (flow_install(p, &back, p->from, p->own_tag, owner_tag, FLOW_LEARNED))
		return;
	count(COUNTER_ENTRIES_LEARNED);
	bpf_map_delete_elem(&asked, &back);
}

__attribute__((noinline)) int step_arrive(struct packet *p)
{
	struct config *c = config_get();
	struct local_row *local;

	if (!p || !c)
		return STEP_DROP;
	if (p->from != p->self && !underlay_host(c, p->from))
		return drop(p, DROP_UNTRUSTED);
	local = local_find(p->key.vni, &p->key.dst);
	if (!local || !local->ifindex || local->tag != p->peer_tag) {
		p->type = WIRE_NOT_HERE;
		p->target = local && !local->ifindex ? local->moved_to : 0;
		p->to = p->from;
		count(COUNTER_NOT_HERE_SENT);
		return p->from == p->self ? STEP_NOT_HERE : STEP_SEND;
	}
	p->slot = local->slot;
	if (!p->icmp_error)
		learn(c, p, local->tag);
	p->ifindex = local->ifindex;
	__builtin_memcpy(p->mac, local->mac, sizeof(p->mac));
	count(COUNTER_DELIVERED);
	return STEP_HAND;
}

/* Our data came back. The entry goes only on the word of the very host it names. */
__attribute__((noinline)) int step_not_here(struct packet *p)
{
	struct config *c = config_get();
	struct flow_entry *e;
	struct local_row *local;
	void *table;
	__u32 slot;

	if (!p || !c)
		return STEP_DROP;
	if (p->from != p->self && !underlay_host(c, p->from))
		return drop(p, DROP_UNTRUSTED);
	local = local_find(p->key.vni, &p->key.src);
	if (!local || !local->ifindex)
		return drop(p, DROP_STRAY_VERDICT);
	count(COUNTER_NOT_HERE_RECEIVED);
	slot = local->slot;
	p->slot = slot;
	p->own_tag = local->tag;
	p->subnet = local->subnet;
	p->hop++;
	if (p->hop > c->hop_limit)
		return drop(p, DROP_HOP_LIMIT);
	e = flow_live(c, p, &p->key, local->tag);
	if (e && (e->host != p->from || e->peer_tag != p->peer_tag))
		return forward(p, e->host, e->peer_tag);
	if (!e)
		return p->icmp_error ? drop(p, DROP_ICMP_ERROR_NO_FLOW) : STEP_ASK;
	table = bpf_map_lookup_elem(&flows, &slot);
	if (table)
		bpf_map_delete_elem(table, &p->key);
	if (p->target)
		return forward(p, p->target, p->peer_tag); /* once; the flow's next packet asks */
	return p->icmp_error ? drop(p, DROP_ICMP_ERROR_NO_FLOW) : STEP_ASK;
}

#endif
