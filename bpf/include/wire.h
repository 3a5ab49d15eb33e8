/* The bytes on the wire: VXLAN over UDP over IPv4, 50 bytes, whose reserved bits and inner MAC addresses carry query
 * and verdict. The only file that knows the encapsulation. Layout: docs/datapath.md.
 */
#ifndef MIZAR_WIRE_H
#define MIZAR_WIRE_H

#include "packet.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#define IP_DONT_FRAGMENT 0x4000
#define VXLAN_HAS_VNI 0x08
#define ECN_MASK 0x03
#define ECN_CE 0x03

/* Follows the outer Ethernet header. aligned(2): stores of 16 bits instead of bytes. */
struct wire {
	struct iphdr ip;
	struct udphdr udp;
	__u8 vxlan_flags;
	__u8 head;	/* version, type, flags */
	__u8 bits;	/* ask-only, passed, scope, action */
	__u8 counts;	/* hop, try */
	__be32 vni_life;
	__be16 dst_tag;	  /* inner destination MAC */
	__be32 dst_host;
	__be32 src_addr;  /* inner source MAC */
	__be16 src_port;
	__be16 protocol;
} __attribute__((packed, aligned(2)));

_Static_assert(sizeof(struct wire) == WIRE_BYTES, "wire");

/* `ip`: 20 bytes whose checksum field is 0; packed structs hold them at even addresses. */
static __always_inline __sum16 ip_checksum(const void *ip)
{
	const __u16 *words = ip;
	__u32 sum = 0;

#pragma clang loop unroll(full)
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* What the inner MAC addresses mean depends on the type. */
static __always_inline void wire_read_macs(const struct wire *w, struct packet *p)
{
	__be32 host = w->dst_host;

	switch (p->type) {
	case WIRE_QUERY:
		p->identity = w->dst_tag;
		p->asker = host;
		break;
	case WIRE_DATA:
		p->peer_tag = w->dst_tag;
		p->own_tag = (__be16)host; /* the first two bytes in memory: both are in network order */
		break;
	default: /* verdict, not-here */
		p->peer_tag = w->dst_tag;
		p->target = host;
	}
	p->nat_addr = w->src_addr;
	p->nat_port = w->src_port;
}

static __always_inline void wire_write_macs(struct wire *w, const struct packet *p)
{
	switch (p->type) {
	case WIRE_QUERY:
		w->dst_tag = p->identity;
		w->dst_host = p->asker;
		break;
	case WIRE_DATA:
		w->dst_tag = p->peer_tag;
		w->dst_host = (__be32)p->own_tag;
		break;
	case WIRE_VERDICT:
		/* A refusal leaves the query's fields where they are. */
		w->dst_tag = p->action == ACTION_ALLOW ? p->peer_tag : p->identity;
		w->dst_host = p->action == ACTION_ALLOW ? p->target : p->asker;
		break;
	default:
		w->dst_tag = p->peer_tag;
		w->dst_host = p->target;
	}
	w->src_addr = p->nat_addr;
	w->src_port = p->nat_port;
}

static __always_inline __u8 wire_type(const struct wire *w)
{
	return w->head >> 3 & 7;
}

/* Reads the message; 0 or the reason to drop. p->key.vni, type and what they carry are set. */
static __always_inline __u32 wire_read(const struct wire *w, struct packet *p)
{
	if (w->vxlan_flags != VXLAN_HAS_VNI || w->protocol != bpf_htons(ETH_P_IP))
		return DROP_OUTER_HEADER;
	p->version = w->head >> 6;
	if (p->version != WIRE_VERSION)
		return DROP_UNKNOWN_VERSION;
	p->type = wire_type(w);
	if (p->type > WIRE_NOT_HERE)
		return DROP_UNKNOWN_TYPE;
	p->flags = w->head & 7;
	p->bits = w->bits & ~WIRE_ACTION_MASK;
	p->action = w->bits & WIRE_ACTION_MASK;
	p->hop = w->counts >> 4;
	p->attempt = w->counts >> 1 & 7;
	p->life = bpf_ntohl(w->vni_life) >> 5 & 7;
	p->key.vni = bpf_ntohl(w->vni_life) >> 8;
	p->from = w->ip.saddr;
	wire_read_macs(w, p);
	/* Nobody sends to itself by the wire; what the steps see as from here needs no trust. */
	return w->ip.saddr == w->ip.daddr ? DROP_UNTRUSTED : 0;
}

/* Writes everything but the lengths, which stay as they are when a message is changed in place and which the header's
 * sum covers: a new message gets them first. */
static __always_inline void wire_write(struct wire *w, const struct packet *p)
{
	__u16 entropy = WIRE_PORT_BASE + (p->hash & (WIRE_PORTS - 1));

	w->ip.version = 4;
	w->ip.ihl = 5;
	w->ip.tos = p->tos;
	w->ip.id = 0;
	w->ip.frag_off = bpf_htons(IP_DONT_FRAGMENT);
	w->ip.ttl = 64;
	w->ip.protocol = IPPROTO_UDP;
	w->ip.saddr = p->self;
	w->ip.daddr = p->to;
	w->ip.check = 0;
	w->ip.check = ip_checksum(w);
	w->udp.source = bpf_htons(entropy);
	w->udp.dest = bpf_htons(WIRE_PORT);
	w->udp.check = 0;
	w->vxlan_flags = VXLAN_HAS_VNI;
	w->head = WIRE_VERSION << 6 | p->type << 3 | (p->flags & 7);
	w->bits = (p->bits & ~WIRE_ACTION_MASK) | (p->action & WIRE_ACTION_MASK);
	w->counts = p->hop << 4 | (p->attempt & 7) << 1;
	w->vni_life = bpf_htonl(p->key.vni << 8 | (p->life & 7) << 5);
	w->protocol = bpf_htons(ETH_P_IP);
	wire_write_macs(w, p);
}

/* `inner`: bytes from the inner IP header on. For a super-packet the kernel sets both anew at segmentation. */
static __always_inline void wire_write_lengths(struct wire *w, __u32 inner)
{
	w->ip.tot_len = bpf_htons((__u16)(inner + WIRE_BYTES));
	w->udp.len = bpf_htons((__u16)(inner + WIRE_BYTES - sizeof(struct iphdr)));
}

/* Is this a frame of the tunnel for `self`? 1 yes, 0 no, -1: it is, but with an outer header that no host of ours writes.
 * Later fragments are no concern: their first one never reaches the stack. */
static __always_inline int wire_is_ours(const struct ethhdr *eth, const struct wire *w, const void *end, __be32 self)
{
	const struct udphdr *udp = (const void *)w + w->ip.ihl * 4;

	if (eth->h_proto != bpf_htons(ETH_P_IP) || w->ip.protocol != IPPROTO_UDP || w->ip.daddr != self ||
	    w->ip.version != 4 || w->ip.frag_off & bpf_htons(0x1fff))
		return 0;
	if ((const void *)(udp + 1) > end || udp->dest != bpf_htons(WIRE_PORT))
		return 0;
	return w->ip.ihl == 5 && !(w->ip.frag_off & bpf_htons(0x2000)) ? 1 : -1;
}

#endif
