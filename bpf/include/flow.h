/* Flow entries: lookup, life and installation. Used by the steps ask, verdict and deliver. */
#ifndef MIZAR_FLOW_H
#define MIZAR_FLOW_H

#include "packet.h"
#include <linux/in.h>

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

static __always_inline __u32 flow_idle(const struct config *c, const struct flow_entry *e, __u8 proto)
{
	if (proto == IPPROTO_TCP)
		return e->flags & FLOW_CLOSING ? c->idle_closed : c->idle_tcp;
	return proto == IPPROTO_UDP ? c->idle_udp : c->idle_icmp;
}

/* The live entry of `key` in the table of p->slot, or NULL; one that outlived its endpoint or its use is removed.
 * No table is the same as no entry: the answer to both is to ask. */
static __always_inline struct flow_entry *flow_live(const struct config *c, const struct packet *p,
						    const struct flow_key *key, __be16 owner_tag)
{
	__u32 slot = p->slot;
	void *table = bpf_map_lookup_elem(&flows, &slot);
	struct flow_entry *e;

	if (!table)
		return NULL;
	e = bpf_map_lookup_elem(table, key);
	if (!e)
		return NULL;
	if (e->owner_tag == owner_tag && elapsed(p->now, e->seen) <= flow_idle(c, e, key->proto))
		return e;
	bpf_map_delete_elem(table, key);
	return NULL;
}

/* Written only when it changes: a cache line that every packet dirties costs more than the lookup. */
static __always_inline void flow_touch(struct flow_entry *e, const struct packet *p)
{
	if (e->seen != p->now)
		e->seen = p->now;
	if (p->tcp_flags & (TCP_FIN | TCP_RST) && !(e->flags & FLOW_CLOSING))
		e->flags |= FLOW_CLOSING;
	else if (p->tcp_flags & TCP_SYN && e->flags & FLOW_CLOSING)
		e->flags &= ~FLOW_CLOSING; /* the ports are used again */
}

/* Is it time to ask about this entry again? Times differ by flow, so that entries of one moment do not ask at once. */
static __always_inline int flow_due(const struct config *c, struct flow_entry *e, const struct packet *p)
{
	__u32 quarter = c->fresh / 4;

	if (elapsed(p->now, e->confirmed) <= c->fresh - quarter + p->hash % (2 * quarter + 1))
		return 0;
	if (e->asked && elapsed(p->now, e->asked) <= c->reask)
		return 0;
	if (e->asked) {
		e->flags |= FLOW_STALE; /* nobody answered; it lives on */
		e->unanswered++;
		count(COUNTER_REVALIDATIONS_UNANSWERED);
	}
	e->asked = p->now ? p->now : 1;
	return 1;
}

static __always_inline void flow_confirm(struct flow_entry *e, const struct packet *p, __be32 host, __be16 peer_tag)
{
	e->host = host;
	e->peer_tag = peer_tag;
	e->confirmed = p->now;
	e->asked = 0;
	e->unanswered = 0;
	e->flags &= ~FLOW_STALE;
}

static __always_inline void flow_remove(const struct packet *p, const struct flow_key *key)
{
	__u32 slot = p->slot;
	void *table = bpf_map_lookup_elem(&flows, &slot);

	if (table)
		bpf_map_delete_elem(table, key);
}

static __always_inline void flow_entry_make(const struct packet *p, __be32 host, __be16 peer_tag, __be16 owner_tag,
					    __u8 flags, struct flow_entry *e)
{
	e->host = host;
	e->peer_tag = peer_tag;
	e->owner_tag = owner_tag;
	e->confirmed = p->now;
	e->seen = p->now;
	e->flags = flags | (p->tcp_flags & (TCP_FIN | TCP_RST) ? FLOW_CLOSING : 0);
	e->scope = SCOPE_EXACT;
	e->life = p->life;
}

/* First one wins: an entry that appeared meanwhile stays. */
static __always_inline int flow_insert(const struct packet *p, const struct flow_key *key, const struct flow_entry *e)
{
	__u32 slot = p->slot;
	void *table = bpf_map_lookup_elem(&flows, &slot);

	return table ? bpf_map_update_elem(table, key, e, BPF_NOEXIST) : -1;
}

#endif
