/* What the two TC skins share: making headers readable, adding and removing the outer ones, and sending. */
#ifndef MIZAR_SKIN_H
#define MIZAR_SKIN_H

#include "core.h"
#include "drop.h"
#include "local.h"
#include "parse.h"
#include "refuse.h"
#include "rewrite.h"
#include "wire.h"

/* Outer headers, inner IP with options, ICMP error with its quoted header and options: all there is to read. */
#define READABLE (ETH_HLEN + WIRE_BYTES + 60 + 8 + 60 + 8)

#ifndef AF_INET
#define AF_INET 2
#endif

#define ENCAPSULATE                                                                                                   \
	(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |                      \
	 BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)

/* Headers, and no byte of payload where that can be helped: of a TCP segment only the headers are in one piece, and to
 * pull payload behind them costs a copy of the segment's head and, later, its merging with others. `outer`: bytes of
 * outer headers behind the Ethernet header. */
static __always_inline void make_readable(struct __sk_buff *skb, __u32 outer)
{
	__u32 plain = ETH_HLEN + outer + sizeof(struct iphdr) + sizeof(struct tcphdr);
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN + outer;
	__u32 want = skb->len < READABLE ? skb->len : READABLE;

	if ((void *)(long)skb->data + want <= (void *)(long)skb->data_end)
		return;
	if ((void *)(long)skb->data + plain <= (void *)(long)skb->data_end && (void *)(ip + 1) <= (void *)(long)skb->data_end &&
	    ip->ihl == 5 && ip->protocol != IPPROTO_ICMP)
		return;
	bpf_skb_pull_data(skb, want);
}

static __always_inline int refuse(const struct packet *p)
{
	drop_count(p->key.vni, p->reason);
	return TC_ACT_SHOT;
}

/* To host p->to by the uplink. The kernel finds the neighbour, and first, at a quarter of what all the rest of the sending
 * costs, the route, unless it is on the uplink's own link. */
static __always_inline int send_out(const struct config *c, const struct packet *p)
{
	struct bpf_redir_neigh next = {.nh_family = AF_INET, .ipv4_nh = p->to};

	if (c->link_mask && (p->to & c->link_mask) == c->link)
		return bpf_redirect_neigh(c->uplink, &next, sizeof(next), 0);
	return bpf_redirect_neigh(c->uplink, NULL, 0, 0);
}

/* Writes the message into outer headers that are already there and sends it. */
static __always_inline int send_in_place(struct __sk_buff *skb, const struct config *c, struct packet *p, int lengths)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct wire *w = (void *)(eth + 1);

	if ((void *)(w + 1) > (void *)(long)skb->data_end) {
		p->reason = DROP_ENCAPSULATION;
		return refuse(p);
	}
	if (lengths)
		wire_write_lengths(w, p->length);
	wire_write(w, p);
	return send_out(c, p);
}

/* Room for the outer headers; 0 if there is. The kernel notes on a packet that it is in a tunnel, so as to segment it, and
 * then refuses to put it in another one. A packet that came in a tunnel and is forwarded (by a host with a port in the VPC)
 * may still bear that note where the wire is a veth; as it needs no segmenting it needs no note. */
static __always_inline int make_room(struct __sk_buff *skb)
{
	if (!bpf_skb_adjust_room(skb, WIRE_BYTES, BPF_ADJ_ROOM_MAC, ENCAPSULATE))
		return 0;
	return skb->gso_size ? -1 : bpf_skb_adjust_room(skb, WIRE_BYTES, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* From the endpoint's Ethernet frame to a frame of the tunnel. A wrong peer tag on the way costs a not-here, no more. */
static __always_inline int send_encapsulated(struct __sk_buff *skb, const struct config *c, struct packet *p)
{
	if (make_room(skb)) {
		p->reason = DROP_ENCAPSULATION;
		return refuse(p);
	}
	return send_in_place(skb, c, p, 1);
}

/* The plain Ethernet frame out of the VPC: by the uplink, or to this host's own stack, which sees it come from the outlet. */
static __always_inline int send_outside(struct __sk_buff *skb, const struct config *c, struct packet *p)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if (p->key.src.w[3] != c->outlet_address)
		return send_out(c, p);
	if ((void *)(eth + 1) > (void *)(long)skb->data_end) {
		p->reason = DROP_MALFORMED;
		return refuse(p);
	}
	__builtin_memcpy(eth->h_dest, gateway_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, gateway_mac, ETH_ALEN);
	return bpf_redirect(c->outlet, 0);
}

/* Hands the plain Ethernet frame to the endpoint's own namespace: past its veth, unless that has a queue, which is there
 * to bound what the endpoint receives. */
static __always_inline int hand_over(struct __sk_buff *skb, struct packet *p)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end) {
		p->reason = DROP_MALFORMED;
		return refuse(p);
	}
	__builtin_memcpy(eth->h_dest, p->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, gateway_mac, ETH_ALEN);
	return p->queued ? bpf_redirect(p->ifindex, 0) : bpf_redirect_peer(p->ifindex, 0);
}

#endif
