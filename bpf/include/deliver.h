/* Steps arrive and not-here: data at the host that should have its destination, and what happens when it has not. */
#ifndef MIZAR_DELIVER_H
#define MIZAR_DELIVER_H

#include "flow.h"
#include "nat.h"
#include "outside.h"
#include "vpc.h"

/* Sends the packet as data to `host`; on a host of its own it arrives in the same run. `vip` 0: no service's flow. */
static __always_inline int forward(struct packet *p, __be32 host, __be16 peer_tag, __be32 vip, __be16 vip_port,
				   __u8 reply)
{
	p->type = WIRE_DATA;
	p->action = ACTION_NONE;
	p->flags = (vip ? WIRE_NATED : 0) | (reply ? WIRE_REPLY : 0);
	p->nat_addr = vip;
	p->nat_port = vip_port;
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

/* What an entry says. A service's flow is a reply where its backend sends. */
static __always_inline int forward_by(struct packet *p, const struct flow_entry *e)
{
	return forward(p, e->host, e->peer_tag, e->vip, e->vip_port,
		       e->flags & FLOW_REPLY || (e->vip && e->flags & FLOW_LEARNED));
}

/* The same for a client's flow to a service. */
static __always_inline int forward_natted(struct packet *p, const struct nat_entry *n)
{
	if (n->kind & NAT_EGRESS)
		return leave(p, n);
	nat_rewrite(p, n);
	return forward(p, n->flow.host, n->flow.peer_tag, n->flow.vip, n->flow.vip_port, 0);
}

/* The client knows best whether it speaks to a service: its packet tells the backend's host, which may have forgotten, or
 * remember another connection of the same ports. */
static __always_inline void learn_vip(struct flow_entry *e, const struct packet *p)
{
	int natted = p->flags & WIRE_NATED;

	if (natted && (e->vip != p->nat_addr || e->vip_port != p->nat_port)) {
		e->vip = p->nat_addr;
		e->vip_port = p->nat_port;
		e->flags = (e->flags & ~FLOW_REPLY) | FLOW_NATED | FLOW_LEARNED;
	} else if (!natted && e->vip) {
		e->vip = 0;
		e->vip_port = 0;
		e->flags &= ~FLOW_NATED;
	}
}

/* The reply's entry, from what was seen: replies need no query. A live entry keeps its host. */
static __always_inline void learn(const struct config *c, struct packet *p, __be16 owner_tag)
{
	struct flow_key back = reversed(&p->key);
	struct flow_entry *e = flow_live(c, p, &back, owner_tag), new = {};

	if (e) {
		flow_touch(e, p);
		if (e->host != p->from && !e->asked)
			e->confirmed = p->now - 2 * c->fresh; /* never believed, but asked about once */
		if (e->host == p->from)
			learn_vip(e, p);
		return;
	}
	flow_entry_make(p, p->from, p->own_tag, owner_tag, FLOW_LEARNED, &new);
	if (p->flags & WIRE_NATED) {
		new.flags |= FLOW_NATED;
		new.vip = p->nat_addr;
		new.vip_port = p->nat_port;
	}
	if (flow_insert(p, &back, &new))
		return;
	count(COUNTER_ENTRIES_LEARNED);
	bpf_map_delete_elem(&asked, &back);
}

/* A reply of a service's backend whose pair was lost here: the packet itself says who it was sent as. It cannot say which
 * port of the client a changed port stood for: the client's own next packet will. 0 when the pair stands again. */
static __always_inline int nat_heal(const struct config *c, struct packet *p, const struct local_row *local)
{
	struct nat_pair *pair = nat_pair_get();

	if (!pair || bpf_ntohs(p->key.dport) >= NAT_PORT_BASE)
		return -1;
	pair->key = reversed(&p->key);
	pair->key.dst.w[3] = p->nat_addr;
	pair->key.dport = p->nat_port;
	nat_pair_make(pair, p->key.src.w[3], p->key.sport, 0, p->from, p->own_tag, local->tag, p->now);
	if (nat_install(c, p, pair, 1))
		return -1;
	nat_rewrite(p, &pair->reverse);
	count(COUNTER_NAT_HEALED);
	return 0;
}

/* At the client's host: the backend's address becomes the VIP again. 1: it was a service's reply; 0: it was none;
 * -1: it was a reply that nobody here waits for. */
static __always_inline int unnat(const struct config *c, struct packet *p, const struct local_row *local)
{
	struct nat_entry *n = nat_live(c, p, &p->key, local->tag);
	struct flow_key back;

	if (n && n->kind == NAT_REVERSE) {
		flow_touch(&n->flow, p);
		nat_rewrite(p, n);
		return 1;
	}
	if (!(p->flags & WIRE_REPLY))
		return 0;
	if (p->icmp_error)
		return p->flags & WIRE_NATED ? -1 : 0;
	if (p->flags & WIRE_NATED)
		return nat_heal(c, p, local) ? -1 : 1;
	back = reversed(&p->key);
	return flow_live(c, p, &back, local->tag) ? 0 : -1;
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
	if (!p->rewrite) {
		int reply = unnat(c, p, local);

		if (reply < 0)
			return drop(p, p->icmp_error ? DROP_ICMP_ERROR_NO_FLOW : DROP_UNKNOWN_REPLY);
		if (!reply && !p->icmp_error)
			learn(c, p, local->tag);
	} else if (!p->icmp_error && p->was_src == p->key.src.w[3]) {
		learn(c, p, local->tag); /* not where the gateway stands for the endpoint itself: the pair knows the way */
	}
	hand_to(p, local);
	count(COUNTER_DELIVERED);
	return STEP_HAND;
}

/* Our data came back. The entry changes or goes only on the word of the very host it names: where that host knows where
 * the endpoint went, the entry follows, is believed no more, and so the flow's next packet asks. */
__attribute__((noinline)) int step_not_here(struct packet *p)
{
	struct config *c = config_get();
	struct nat_entry *n = NULL;
	struct flow_key key;
	struct flow_entry *e;
	struct local_row *local;

	if (!p || !c)
		return STEP_DROP;
	if (p->from != p->self && !underlay_host(c, p->from))
		return drop(p, DROP_UNTRUSTED);
	local = local_find(p->key.vni, &p->key.src);
	if (!local || !local->ifindex)
		return drop(p, DROP_STRAY_VERDICT);
	count(COUNTER_NOT_HERE_RECEIVED);
	p->slot = local->slot;
	p->own_tag = local->tag;
	p->subnet = local->subnet;
	p->hop++;
	if (p->hop > c->hop_limit)
		return drop(p, DROP_HOP_LIMIT);
	e = flow_live(c, p, &p->key, local->tag);
	if (!e && p->flags & WIRE_NATED) {
		n = nat_forward_of(c, p, local->tag, &key);
		if (n)
			e = &n->flow;
	}
	if (e && e->host == p->from && e->peer_tag == p->peer_tag) {
		if (p->target && (p->target == p->self || underlay_host(c, p->target))) {
			e->host = p->target;
			e->confirmed = p->now - 2 * c->fresh;
			e->asked = 0;
		} else if (n) {
			nat_remove(p, &key, n);
			nat_undo(p, &key); /* the service may have another backend */
			e = NULL;
		} else {
			flow_remove(p, &p->key);
			e = NULL;
		}
	}
	if (e)
		return forward_by(p, e);
	return p->icmp_error ? drop(p, DROP_ICMP_ERROR_NO_FLOW) : STEP_ASK;
}

#endif
