/* NAT pairs of services, on the client's host: lookup, installation, and what they make of a packet.
 *
 * A step only notes the new addresses (packet.key) and the old ones; the TC skins change the bytes (rewrite.h). Every
 * packet of such a flow carries the VIP on the wire, both ways, so that either host may lose its entries.
 */
#ifndef MIZAR_NAT_H
#define MIZAR_NAT_H

#include "flow.h"

#define NAT_TRIES 8
#define NAT_PORT_BASE 61440 /* to 65535: where a client's own system does not look for ports unless told to */

static __always_inline struct nat_entry *nat_live(const struct config *c, const struct packet *p,
						  const struct flow_key *key, __be16 owner_tag)
{
	__u32 slot = p->slot;
	void *table = bpf_map_lookup_elem(&nats, &slot);
	struct nat_entry *n;

	if (!table)
		return NULL;
	n = bpf_map_lookup_elem(table, key);
	/* Not ours to remove: a backend on the client's own host finds the client's entry under what it sends. */
	if (!n || n->flow.owner_tag != owner_tag)
		return NULL;
	if (elapsed(p->now, n->flow.seen) <= flow_idle(c, &n->flow, key->proto))
		return n;
	bpf_map_delete_elem(table, key);
	return NULL;
}

/* Of a direct flow beside a service's, with the same client port and backend: it changes nothing but that port. */
static __always_inline int nat_beside(const struct flow_key *key, const struct nat_entry *n)
{
	return (n->kind & (NAT_FORWARD | NAT_EGRESS)) == NAT_FORWARD && n->dst == key->dst.w[3] && n->dport == key->dport;
}

/* What the flow's other direction looks like on arrival, after this entry's rewriting. */
static __always_inline struct flow_key nat_reverse_key(const struct flow_key *key, const struct nat_entry *n)
{
	struct flow_key r = {
		.vni = key->vni,
		.src = mapped(n->dst),
		.dst = mapped(n->src),
		.sport = n->dport,
		.dport = n->sport,
		.proto = key->proto,
	};

	return r;
}

static __always_inline void nat_remove(const struct packet *p, const struct flow_key *key, const struct nat_entry *n)
{
	struct flow_key back = nat_reverse_key(key, n);
	__u32 slot = p->slot;
	void *table = bpf_map_lookup_elem(&nats, &slot);

	if (!table)
		return;
	if (!(n->kind & NAT_EGRESS))
		bpf_map_delete_elem(table, &back);
	bpf_map_delete_elem(table, key);
}

/* What the packet still says: before the first rewriting of a run. */
static __always_inline void rewrite_note(struct packet *p)
{
	if (p->rewrite)
		return;
	p->rewrite = 1;
	p->was_src = p->key.src.w[3];
	p->was_dst = p->key.dst.w[3];
	p->was_sport = p->key.sport;
	p->was_dport = p->key.dport;
}

/* From here on p->key is the packet as it will be; its hash stays the flow's own, for the same outer source port. */
static __always_inline void nat_rewrite(struct packet *p, const struct nat_entry *n)
{
	rewrite_note(p);
	p->key.src.w[3] = n->src;
	p->key.dst.w[3] = n->dst;
	p->key.sport = n->sport;
	p->key.dport = n->dport;
}

/* The client's entry of a packet that it made of the client's: the way back is known by what the backend's would look
 * like. `key` becomes client -> VIP. */
static __always_inline struct nat_entry *nat_forward_of(const struct config *c, const struct packet *p,
							__be16 owner_tag, struct flow_key *key)
{
	struct nat_entry *n;

	*key = reversed(&p->key);
	n = nat_live(c, p, key, owner_tag);
	if (!n || !(n->kind & NAT_REVERSE))
		return NULL;
	*key = nat_reverse_key(key, n);
	n = nat_live(c, p, key, owner_tag);
	return n && n->kind & NAT_FORWARD ? n : NULL;
}

/* The packet is the client's own again, and so is its hash. */
static __always_inline void nat_undo(struct packet *p, const struct flow_key *key)
{
	rewrite_note(p);
	p->key = *key;
	p->hash = flow_hash(key);
}

/* Does another flow already come back this way? A plain flow to the same backend counts too. */
static __always_inline int nat_taken(const struct config *c, const struct packet *p, const struct flow_key *back,
				     const struct nat_entry *mine, __be16 owner_tag)
{
	struct flow_key plain = reversed(back);
	struct nat_entry *other = nat_live(c, p, back, owner_tag);

	if (other)
		return other->src != mine->src || other->sport != mine->sport || other->dport != mine->dport;
	return flow_live(c, p, &plain, owner_tag) != NULL;
}

struct nat_pair {
	struct flow_key key; /* client -> VIP */
	struct flow_key back;
	struct nat_entry forward;
	struct nat_entry reverse;
};

/* A pair under construction: too large for the stack. Nothing else runs on this CPU until the program is done. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_pair);
} nat_scratch SEC(".maps");

static __always_inline struct nat_pair *nat_pair_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_scratch, &zero);
}

/* Both entries or neither. `pair` comes with the client's own port towards the backend, which changes when another flow has
 * it; with `tries` 1 it must not. 0, or the reason to drop. */
static __always_inline __u32 nat_install(const struct config *c, const struct packet *p, struct nat_pair *pair, __u32 tries)
{
	__u32 slot = p->slot, hash = p->hash;
	void *table = bpf_map_lookup_elem(&nats, &slot);
	int found = 0;

	if (!table)
		return DROP_NAT_CLASH;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < tries; i++) {
		pair->back = nat_reverse_key(&pair->key, &pair->forward);
		if (!nat_taken(c, p, &pair->back, &pair->reverse, pair->forward.flow.owner_tag)) {
			found = 1;
			break;
		}
		pair->forward.sport = bpf_htons(NAT_PORT_BASE + (mix(hash + i) & 0xfff));
	}
	if (!found)
		return DROP_NAT_CLASH;
	if (bpf_map_update_elem(table, &pair->back, &pair->reverse, BPF_ANY))
		return DROP_NAT_CLASH;
	if (bpf_map_update_elem(table, &pair->key, &pair->forward, BPF_ANY)) {
		bpf_map_delete_elem(table, &pair->back);
		return DROP_NAT_CLASH;
	}
	count(COUNTER_NAT_INSTALLED);
	return 0;
}

/* The pair of a flow pair->key (client -> VIP) to a backend that lives on `host`. */
static __always_inline void nat_pair_make(struct nat_pair *pair, __be32 backend, __be16 port, __be32 gateway,
					  __be32 host, __be16 peer_tag, __be16 own_tag, __u32 now)
{
	const struct flow_key *k = &pair->key;
	int hairpin = backend == k->src.w[3];
	struct flow_entry flow = {
		.host = host, .peer_tag = peer_tag, .owner_tag = own_tag, .confirmed = now, .seen = now,
		.flags = FLOW_ASKED | FLOW_NATED, .vip = k->dst.w[3], .vip_port = k->dport};

	pair->forward.flow = flow;
	pair->forward.src = hairpin ? gateway : k->src.w[3];
	pair->forward.dst = backend;
	pair->forward.sport = k->sport;
	pair->forward.dport = port;
	pair->forward.kind = NAT_FORWARD | (hairpin ? NAT_HAIRPIN : 0);
	pair->reverse.flow = flow;
	pair->reverse.src = k->dst.w[3];
	pair->reverse.dst = k->src.w[3];
	pair->reverse.sport = k->dport;
	pair->reverse.dport = k->sport;
	pair->reverse.kind = NAT_REVERSE | (hairpin ? NAT_HAIRPIN : 0);
}

#endif
