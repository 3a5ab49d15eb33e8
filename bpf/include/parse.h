/* Reads an inner IP packet into struct packet. Called by both skins; the pointers are the packet's own.
 *
 * One contract: `l3` and `end` are packet pointers, every field is bounds-checked before it is read, the return is 0 or
 * the reason to drop.  IP options are skipped; later fragments borrow the ports of their first.
 */
#ifndef MIZAR_PARSE_H
#define MIZAR_PARSE_H

#include "packet.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define IP_MORE_FRAGMENTS 0x2000
#define IP_FRAGMENT_OFFSET 0x1fff

/* linux/icmp.h drags in headers of the C library; this is all that is needed of it (RFC 792). */
enum {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

struct icmp {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id;
	__be16 sequence;
};

struct ports {
	__be16 source;
	__be16 dest;
};

static __always_inline int icmp_is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* An ICMP error follows the flow it is about, reversed: the key becomes that flow's. */
static __always_inline __u32 parse_icmp_error(struct iphdr *embedded, void *end, struct packet *p)
{
	struct ports *ports;

	if ((void *)(embedded + 1) > end || embedded->version != 4 || embedded->ihl < 5)
		return DROP_MALFORMED;
	if (embedded->saddr != p->key.dst.w[3])
		return DROP_MALFORMED;
	if (embedded->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return DROP_ICMP_ERROR_NO_FLOW; /* it quotes no ports, and need not have been sent (RFC 1122, 3.2.2) */
	ports = (void *)embedded + embedded->ihl * 4;
	if ((void *)(ports + 1) > end)
		return DROP_MALFORMED;
	p->icmp_error = 1;
	p->quoted = embedded->ihl * 4;
	p->key.src = mapped(embedded->daddr);
	p->key.proto = embedded->protocol;
	if (embedded->protocol == IPPROTO_TCP || embedded->protocol == IPPROTO_UDP) {
		p->key.sport = ports->dest;
		p->key.dport = ports->source;
	} else if (embedded->protocol == IPPROTO_ICMP && (void *)(ports + 2) <= end) {
		p->key.sport = p->key.dport = ports[1].source; /* the echo's id */
	}
	return 0;
}

static __always_inline __u32 parse_l4(void *l4, void *end, struct packet *p)
{
	struct ports *ports = l4;
	struct icmp *icmp = l4;
	struct tcphdr *tcp = l4;

	switch (p->key.proto) {
	case IPPROTO_TCP:
		if ((void *)(tcp + 1) > end)
			return DROP_MALFORMED;
		p->tcp_flags = ((__u8 *)l4)[13];
		p->transport = (((__u8 *)l4)[12] >> 4) * 4;
		break;
	case IPPROTO_UDP:
		if (l4 + sizeof(struct udphdr) > end)
			return DROP_MALFORMED;
		p->transport = sizeof(struct udphdr);
		break;
	case IPPROTO_ICMP:
		if ((void *)(icmp + 1) > end)
			return DROP_MALFORMED;
		if (icmp_is_error(icmp->type))
			return parse_icmp_error((void *)(icmp + 1), end, p);
		if (icmp->type == ICMP_ECHO || icmp->type == ICMP_ECHOREPLY)
			p->key.sport = p->key.dport = icmp->id;
		return 0;
	default:
		return 0;
	}
	p->key.sport = ports->source;
	p->key.dport = ports->dest;
	return 0;
}

/* `first`: this one carries the ports and says so to the rest of its datagram. */
static __always_inline __u32 parse_fragment(struct config *c, struct packet *p, __be16 id, int first)
{
	struct fragment_key key = {
		.vni = p->key.vni, .src = p->key.src, .dst = p->key.dst, .id = id, .proto = p->key.proto};
	struct fragment_row row = {.sport = p->key.sport, .dport = p->key.dport, .seen = p->now}, *known;

	if (first) {
		bpf_map_update_elem(&fragments, &key, &row, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known || elapsed(p->now, known->seen) > c->fragment)
		return DROP_FRAGMENT_UNKNOWN;
	p->key.sport = known->sport;
	p->key.dport = known->dport;
	return 0;
}

/* p->key.vni and p->now are set before; `available` is the number of bytes from l3 to the end of the packet, of which
 * [l3, end) are readable. Sets the rest of the key, hash, tos, length and flags. */
static __always_inline __u32 parse_inner(struct config *c, void *l3, void *end, __u32 available, struct packet *p)
{
	struct iphdr *ip = l3;
	__u32 header, reason = 0;
	__u16 fragment;

	if ((void *)(ip + 1) > end)
		return DROP_MALFORMED;
	if (ip->version != 4)
		return DROP_UNSUPPORTED_PROTOCOL;
	header = ip->ihl * 4;
	if (header < sizeof(*ip) || bpf_ntohs(ip->tot_len) < header || bpf_ntohs(ip->tot_len) > available)
		return DROP_MALFORMED;
	p->key.src = mapped(ip->saddr);
	p->key.dst = mapped(ip->daddr);
	p->key.proto = ip->protocol;
	p->header = header;
	p->tos = ip->tos;
	p->length = available;
	if ((bpf_ntohl(ip->daddr) >> 28) >= 0xe) /* 224.0.0.0/4 and 240.0.0.0/4 with the broadcast address */
		return DROP_MULTICAST;

	fragment = bpf_ntohs(ip->frag_off) & (IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET);
	p->fragment = !!fragment;
	p->later_fragment = !!(fragment & IP_FRAGMENT_OFFSET);
	if (!p->later_fragment)
		reason = parse_l4(l3 + header, end, p);
	if (!reason && fragment) /* nobody cuts an error in pieces, and its key is not the datagram's */
		reason = p->icmp_error ? DROP_MALFORMED : parse_fragment(c, p, ip->id, !p->later_fragment);
	p->hash = flow_hash(&p->key);
	return reason;
}

#endif
