/* Steps leave and return: a flow gets its way out of the VPC, and what comes back by it finds its endpoint.
 *
 * No packet of an endpoint reaches this host's stack under the endpoint's own address, and nothing is tracked but the rows
 * of `egress`. A bouncer's word is not enough to get out: the address and port must be listed on the client's own host.
 */
#ifndef MIZAR_LEAVE_H
#define MIZAR_LEAVE_H

#include "outside.h"
#include "verdict.h"

#define EGRESS_TRIES 16

/* What was found at the ports that a flow may have, in the order in which they are preferred. */
enum egress_found {
	FOUND_MINE,   /* the row of this very flow */
	FOUND_FREE,   /* no row */
	FOUND_ENDED,  /* a row that is used no more */
	FOUND_SPARED, /* of the same endpoint, and likely to have done its work: the one that was idle for longest */
	FOUND_KINDS,
};

struct egress_search {
	struct egress_key key;
	struct egress_row row; /* as it is to be */
	__be16 port[FOUND_KINDS]; /* 0: none */
	__u32 seen[FOUND_KINDS];
};

/* Too large for the stack; and what lies in a map does not multiply the paths that the verifier follows. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct egress_search);
} egress_scratch SEC(".maps");

/* One of the ports that an endpoint may have: they lie in a stretch of its VPC's, and that in a stretch of all, so that no
 * endpoint and no VPC can have all of them. Stretches overlap, each beginning where its owner's number says. */
static __always_inline __be16 egress_port(const struct packet *p, __u32 attempt)
{
	__u32 vpc = mix(p->key.vni), endpoint = mix(p->key.src.w[3] ^ vpc);
	__u32 offset = endpoint + (mix(p->hash + attempt) & (EGRESS_ENDPOINT_PORTS - 1));

	return bpf_htons(EGRESS_PORT_BASE + ((vpc + (offset & (EGRESS_VPC_PORTS - 1))) & (EGRESS_PORTS - 1)));
}

/* Can its endpoint do without it, should it want the port for another flow? Of what is closing only stragglers are to come. */
static __always_inline int egress_spare(const struct config *c, const struct packet *p, const struct egress_row *row)
{
	if (row->vni != p->key.vni || row->endpoint != p->key.src.w[3])
		return 0;
	if (p->key.proto == IPPROTO_UDP)
		return row->flags & EGRESS_ANSWERED;
	return row->flags & EGRESS_CLOSING && elapsed(p->now, row->seen) > c->pending;
}

/* What is at this port. A row ends with its time, or with its endpoint. */
static __always_inline __u32 egress_find(const struct config *c, const struct packet *p, const struct egress_row *row)
{
	struct addr owner;
	struct local_row *local;

	if (!row)
		return FOUND_FREE;
	if (egress_mine(p, row))
		return FOUND_MINE;
	if (!egress_live(c, p, row))
		return FOUND_ENDED;
	owner = mapped(row->endpoint);
	local = local_find(row->vni, &owner);
	if (!local || !local->ifindex || local->tag != row->tag)
		return FOUND_ENDED;
	return egress_spare(c, p, row) ? FOUND_SPARED : FOUND_KINDS;
}

static __always_inline void egress_look(const struct config *c, const struct packet *p, struct egress_search *s,
					__be16 port)
{
	struct egress_row *row;
	__u32 found, seen;

	s->key.own_port = port;
	row = bpf_map_lookup_elem(&egress, &s->key);
	found = egress_find(c, p, row);
	if (found >= FOUND_KINDS)
		return;
	seen = row ? row->seen : 0;
	if (s->port[found] && (found != FOUND_SPARED || elapsed(p->now, seen) <= elapsed(p->now, s->seen[found])))
		return;
	s->port[found] = port;
	s->seen[found] = seen;
}

/* Makes the row at a port that was found the flow's. 0 when it is: of two that want one port at once, one gets it. */
static __always_inline int egress_take(const struct config *c, const struct packet *p, struct egress_search *s,
				       __u32 found)
{
	struct egress_row *row;

	if (!s->port[found])
		return -1;
	s->key.own_port = s->port[found];
	if (found == FOUND_FREE && !bpf_map_update_elem(&egress, &s->key, &s->row, BPF_NOEXIST))
		return 0;
	row = bpf_map_lookup_elem(&egress, &s->key);
	if (!row)
		return -1;
	if (egress_mine(p, row) && egress_live(c, p, row)) {
		egress_touch(row, p);
		return 0;
	}
	if (found == FOUND_FREE || __sync_val_compare_and_swap(&row->seen, s->seen[found], p->now) != s->seen[found])
		return -1;
	return bpf_map_update_elem(&egress, &s->key, &s->row, BPF_EXIST);
}

/* A port for the flow p->key towards p->nat_addr; s->key says which. 0, or -1: there is none to be had. */
static __always_inline int egress_lease(const struct config *c, const struct packet *p, struct egress_search *s, __be32 own)
{
	struct egress_key key = {
		.peer = p->nat_addr, .own = own, .peer_port = p->nat_port, .proto = p->key.proto};
	struct egress_row row = {
		.vni = p->key.vni, .endpoint = p->key.src.w[3], .vip = p->key.dst.w[3], .port = p->key.sport,
		.vip_port = p->key.dport, .seen = p->now, .tag = p->own_tag};

	__builtin_memset(s, 0, sizeof(*s));
	s->key = key;
	s->row = row;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < EGRESS_TRIES; i++)
		egress_look(c, p, s, egress_port(p, i));
#pragma clang loop unroll(full)
	for (__u32 found = 0; found < FOUND_KINDS; found++) {
		if (!egress_take(c, p, s, found))
			return 0;
	}
	return -1;
}

/* The flow's entry and row, and the packet on its way. A row whose entry is lost is found again by the flow's next packet,
 * so that the flow keeps its port. */
static __always_inline int leave_anew(const struct config *c, struct packet *p, __be32 own)
{
	__u32 slot = p->slot, zero = 0;
	void *table = bpf_map_lookup_elem(&nats, &slot);
	struct egress_search *s = bpf_map_lookup_elem(&egress_scratch, &zero);
	struct nat_pair *pair = nat_pair_get();
	struct flow_entry flow = {
		.host = p->nat_addr, .owner_tag = p->own_tag, .confirmed = p->now, .seen = p->now,
		.flags = FLOW_ASKED | FLOW_NATED, .vip = p->key.dst.w[3], .vip_port = p->key.dport};

	if (!table || !s || !pair || egress_lease(c, p, s, own))
		return drop(p, DROP_NAT_CLASH);
	pair->key = p->key;
	pair->forward.flow = flow;
	pair->forward.src = own;
	pair->forward.dst = p->nat_addr;
	pair->forward.sport = s->key.own_port;
	pair->forward.dport = p->nat_port;
	pair->forward.kind = NAT_FORWARD | NAT_EGRESS;
	if (bpf_map_update_elem(table, &pair->key, &pair->forward, BPF_ANY))
		return drop(p, DROP_NAT_CLASH);
	count(COUNTER_NAT_INSTALLED);
	return forward_natted(p, &pair->forward);
}

/* The verdict says: out of the VPC, to p->nat_addr. Towards this host itself endpoints have an address of their own, since
 * its stack would not take a packet from one of its addresses. */
__attribute__((noinline)) int step_leave(struct packet *p)
{
	struct config *c = config_get();
	struct listed_key key = {};
	struct listed_row *row;
	struct nat_entry *n;

	if (!p || !c)
		return STEP_DROP;
	key.addr = p->nat_addr;
	key.port = p->nat_port;
	key.proto = p->key.proto;
	row = bpf_map_lookup_elem(&listed, &key);
	n = nat_live(c, p, &p->key, p->own_tag);
	if (!(p->flags & WIRE_NATED) || !row) {
		if (n && n->kind & NAT_EGRESS)
			nat_remove(p, &p->key, n);
		return verdict_refuse(c, p, ASKED_DENIED, DROP_EGRESS_FORBIDDEN);
	}
	bpf_map_delete_elem(&asked, &p->key);
	if (p->bits & WIRE_ASK_ONLY) {
		if (n && n->kind & NAT_EGRESS && n->dst == p->nat_addr && n->dport == p->nat_port)
			flow_confirm(&n->flow, p, p->nat_addr, 0);
		return STEP_END;
	}
	if (n && n->kind & NAT_FORWARD && egress_usable(c, p, n))
		return forward_natted(p, n);
	if (row->local && !c->outlet)
		return drop(p, DROP_NO_CONFIG);
	return leave_anew(c, p, row->local ? c->outlet_address : c->self);
}

/* From outside of every VPC, p->key as it came, to an address of this host: for a flow of an endpoint, or for the machine.
 * The flow of an endpoint that is gone is the machine's too: it will say that nobody is there. */
__attribute__((noinline)) int step_return(struct packet *p)
{
	struct config *c = config_get();
	struct egress_key key = {};
	struct egress_row *row;
	struct local_row *local;
	struct addr owner;

	if (!p || !c)
		return STEP_PASS;
	key.peer = p->key.src.w[3];
	key.own = p->key.dst.w[3];
	key.peer_port = p->key.sport;
	key.own_port = p->key.dport;
	key.proto = p->key.proto;
	row = bpf_map_lookup_elem(&egress, &key);
	if (!row || !egress_live(c, p, row))
		return STEP_PASS;
	owner = mapped(row->endpoint);
	local = local_find(row->vni, &owner);
	if (!local || !local->ifindex || local->tag != row->tag) {
		bpf_map_delete_elem(&egress, &key);
		return STEP_PASS;
	}
	if (!p->icmp_error) {
		egress_touch(row, p);
		if (!(row->flags & EGRESS_ANSWERED))
			row->flags |= EGRESS_ANSWERED;
	}
	p->key.vni = row->vni;
	rewrite_note(p);
	p->key.src.w[3] = row->vip;
	p->key.dst = owner;
	p->key.sport = row->vip_port;
	p->key.dport = row->port;
	hand_to(p, local);
	count(COUNTER_EGRESS_RECEIVED);
	return STEP_HAND;
}

#endif
