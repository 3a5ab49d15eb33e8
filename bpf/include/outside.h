/* Flows between endpoints of this host and addresses outside of every VPC (EGRESS): who has which port of this host.
 *
 * The flow's own half is an entry of `nats`, found by what the endpoint sends. The way back is a row of `egress`, found by
 * what comes from outside. Whether a port is a flow's is decided by the row alone: an entry whose row is another's, or is no
 * more, is not used. Used by deliver, egress, verdict and leave.
 */
#ifndef MIZAR_OUTSIDE_H
#define MIZAR_OUTSIDE_H

#include "nat.h"
#include "vpc.h"
#include <linux/ip.h>

/* Until the peer has spoken there may be nobody, and after a connection's end there is nothing to come. */
static __always_inline __u32 egress_idle(const struct config *c, const struct egress_row *row, __u8 proto)
{
	if (!(row->flags & EGRESS_ANSWERED) || row->flags & EGRESS_CLOSING)
		return c->idle_closed;
	return proto == IPPROTO_TCP ? c->idle_tcp : c->idle_udp;
}

static __always_inline int egress_live(const struct config *c, const struct packet *p, const struct egress_row *row)
{
	return elapsed(p->now, row->seen) <= egress_idle(c, row, p->key.proto);
}

/* Is it the row of the flow that p->key (endpoint -> VIP) names? */
static __always_inline int egress_mine(const struct packet *p, const struct egress_row *row)
{
	const struct flow_key *k = &p->key;

	return row->vni == k->vni && row->endpoint == k->src.w[3] && row->port == k->sport && row->vip == k->dst.w[3] &&
	       row->vip_port == k->dport && row->tag == p->own_tag;
}

static __always_inline void egress_touch(struct egress_row *row, const struct packet *p)
{
	if (row->seen != p->now)
		row->seen = p->now;
	if (p->tcp_flags & (TCP_FIN | TCP_RST) && !(row->flags & EGRESS_CLOSING))
		row->flags |= EGRESS_CLOSING;
	else if (p->tcp_flags & TCP_SYN && row->flags & EGRESS_CLOSING)
		row->flags &= ~EGRESS_CLOSING; /* the ports are used again */
}

/* May the client's entry be used? One of a flow out of the VPC only while the port is still the flow's. */
static __always_inline int egress_usable(const struct config *c, const struct packet *p, const struct nat_entry *n)
{
	struct egress_key key = {
		.peer = n->dst, .own = n->src, .peer_port = n->dport, .own_port = n->sport, .proto = p->key.proto};
	struct egress_row *row;

	if (!(n->kind & NAT_EGRESS))
		return 1;
	row = bpf_map_lookup_elem(&egress, &key);
	if (!row || !egress_mine(p, row) || !egress_live(c, p, row))
		return 0;
	egress_touch(row, p);
	return 1;
}

/* Out of the VPC. Whose flow a fragment is could nobody tell of the answer to it; IP options could lead it elsewhere. */
static __always_inline int leave(struct packet *p, const struct nat_entry *n)
{
	if (p->fragment)
		return drop(p, DROP_EGRESS_FRAGMENT);
	if (p->header != sizeof(struct iphdr))
		return drop(p, DROP_EGRESS_FORBIDDEN);
	nat_rewrite(p, n);
	p->to = n->dst;
	count(COUNTER_EGRESS_SENT);
	return STEP_OUT;
}

#endif
