/* What an endpoint is told of a packet that goes nowhere: ICMP errors (its TTL ended, it is too big, nobody is behind the
 * service) and TCP resets. Called by the TC skins; each takes the endpoint's own frame and turns it into the answer.
 */
#ifndef MIZAR_REFUSE_H
#define MIZAR_REFUSE_H

#include "budget.h"
#include "local.h"
#include <linux/tcp.h>
#include <stddef.h>

#define ERROR_ROOM (sizeof(struct iphdr) + sizeof(struct icmp))
#define ERROR_QUOTE (sizeof(struct iphdr) + 8)
#define ICMP_PORT_UNREACHABLE 3
#define ICMP_FRAGMENTATION_NEEDED 4

struct icmp_error {
	struct iphdr ip;
	struct icmp icmp;
	__u8 quote[ERROR_QUOTE];
} __attribute__((packed, aligned(2)));

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline void answer_header(struct iphdr *ip, __u16 length, __u8 protocol, __be32 src, __be32 dst)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(length);
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->saddr = src;
	ip->daddr = dst;
	ip->check = ip_checksum(ip);
}

/* Never an error about an error or about the rest of a datagram (RFC 1122, 3.2.2), and no more of them than the endpoint
 * may ask questions: they come out of the same budget. */
static __always_inline int answer_allowed(const struct packet *p)
{
	struct budget_key budget = {.id = p->ifindex};
	struct config *c = config_get();

	return c && !p->icmp_error && !p->later_fragment &&
	       budget_take(&budget, 256, c->query_rate, c->query_burst << 8, p->now);
}

/* Turns an endpoint's Ethernet frame into an ICMP error from `from` to it (RFC 792): header and 8 bytes of the original
 * behind it. `mtu`: 0, or what fits (RFC 1191). 0 when the answer stands. */
static __always_inline int answer_error(struct __sk_buff *skb, const struct packet *p, __be32 from, __be32 endpoint,
					__u8 type, __u8 code, __u16 mtu)
{
	struct ethhdr *eth;
	struct icmp_error *e;
	__u16 *words;
	__u32 sum = 0;

	if (!answer_allowed(p) || bpf_skb_change_tail(skb, sizeof(*eth) + ERROR_QUOTE, 0) ||
	    bpf_skb_adjust_room(skb, ERROR_ROOM, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	eth = (void *)(long)skb->data;
	e = (void *)(eth + 1);
	if ((void *)(e + 1) > (void *)(long)skb->data_end)
		return -1;
	answer_header((void *)e, sizeof(*e), IPPROTO_ICMP, from, endpoint);
	__builtin_memset(&e->icmp, 0, sizeof(e->icmp));
	words = (void *)e + sizeof(e->ip);
	e->icmp.type = type;
	e->icmp.code = code;
	e->icmp.sequence = bpf_htons(mtu);
#pragma clang loop unroll(full)
	for (unsigned int i = 0; i < (sizeof(e->icmp) + ERROR_QUOTE) / 2; i++)
		sum += words[i];
	e->icmp.checksum = fold(sum);
	answer_ethernet(eth);
	return 0;
}

struct reset {
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed, aligned(2)));

/* Turns an endpoint's TCP segment into the reset that it would get from a closed port (RFC 9293, 3.10.7.1). */
static __always_inline int answer_reset(struct __sk_buff *skb, const struct packet *p)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct reset *r = (void *)(eth + 1);
	struct tcphdr old;
	__u16 *words;
	__u32 sum = 0;

	/* With IP options the segment would have to be moved; nobody sends those, and it merely times out. */
	if (p->header != sizeof(r->ip) || p->tcp_flags & TCP_RST || (void *)(r + 1) > (void *)(long)skb->data_end ||
	    !answer_allowed(p))
		return -1;
	__builtin_memcpy(&old, &r->tcp, sizeof(old));
	if (bpf_skb_change_tail(skb, sizeof(*eth) + sizeof(*r), 0))
		return -1;
	eth = (void *)(long)skb->data;
	r = (void *)(eth + 1);
	if ((void *)(r + 1) > (void *)(long)skb->data_end)
		return -1;
	answer_header((void *)r, sizeof(*r), IPPROTO_TCP, p->key.dst.w[3], p->key.src.w[3]);
	__builtin_memset(&r->tcp, 0, sizeof(r->tcp));
	r->tcp.source = old.dest;
	r->tcp.dest = old.source;
	r->tcp.doff = sizeof(r->tcp) / 4;
	r->tcp.rst = 1;
	if (old.ack) {
		r->tcp.seq = old.ack_seq;
	} else {
		r->tcp.ack = 1;
		r->tcp.ack_seq = bpf_htonl(bpf_ntohl(old.seq) + old.syn);
	}
	words = (void *)r + offsetof(struct iphdr, saddr); /* both addresses, then the segment */
#pragma clang loop unroll(full)
	for (unsigned int i = 0; i < (8 + sizeof(r->tcp)) / 2; i++)
		sum += words[i];
	r->tcp.check = fold(sum + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(r->tcp)));
	answer_ethernet(eth);
	return 0;
}

/* What a host without that port would say. The frame is the endpoint's own again. 0 when the answer stands. */
static __always_inline int answer_refused(struct __sk_buff *skb, const struct packet *p)
{
	if (p->key.proto == IPPROTO_TCP)
		return answer_reset(skb, p);
	return answer_error(skb, p, p->key.dst.w[3], p->key.src.w[3], ICMP_DEST_UNREACH, ICMP_PORT_UNREACHABLE, 0);
}

#endif
