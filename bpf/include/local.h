/* What an endpoint is answered on the spot: ARP for its gateway, the gateway's echo, and time exceeded.
 * Called by endpoint.bpf.c only. Each answer goes back out of the device that the question came from.
 */
#ifndef MIZAR_LOCAL_H
#define MIZAR_LOCAL_H

#include "parse.h"
#include "flow.h"
#include "wire.h"
#include <linux/tcp.h>
#include <stddef.h>
#include <linux/pkt_cls.h>

#define LINK_GATEWAY bpf_htonl(0xa9fe0101) /* 169.254.1.1: every pod's next hop */

static const __u8 gateway_mac[ETH_ALEN] = {0x02, 0x6d, 0x7a, 0x00, 0x00, 0x01};

enum {
	ARP_ETHERNET = 1,
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
};

/* ARP for IPv4 over Ethernet (RFC 826). */
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed, aligned(2)));

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u16 *)a == *(__u16 *)b && *(__u16 *)(a + 2) == *(__u16 *)(b + 2) &&
	       *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

static __always_inline int is_gateway(const struct port_row *port, __be32 address)
{
	return address == LINK_GATEWAY || address == port->gateway;
}

static __always_inline void answer_ethernet(struct ethhdr *eth)
{
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, gateway_mac, ETH_ALEN);
}

/* 0: answered in place. Else the reason to drop; requests for others are nobody's business here. */
static __always_inline __u32 answer_arp(const struct port_row *port, struct ethhdr *eth, void *end)
{
	struct arp *arp = (void *)(eth + 1);

	if ((void *)(arp + 1) > end || arp->hardware != bpf_htons(ARP_ETHERNET) ||
	    arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != ETH_ALEN || arp->protocol_length != 4)
		return DROP_MALFORMED;
	/* A probe for duplicates has sender 0 (RFC 5227). */
	if (!same_mac(arp->sender_mac, port->mac) || (arp->sender && arp->sender != port->addr.w[3]))
		return DROP_SOURCE_ARP;
	if (arp->operation != bpf_htons(ARP_REQUEST) || !is_gateway(port, arp->target))
		return DROP_UNSUPPORTED_PROTOCOL;
	__be32 asked_for = arp->target;

	arp->operation = bpf_htons(ARP_REPLY);
	arp->target = arp->sender;
	arp->sender = asked_for;
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->sender_mac, gateway_mac, ETH_ALEN);
	answer_ethernet(eth);
	return 0;
}

/* Echo request to the gateway becomes its reply. The sum of a pod's echo is complete: it is never offloaded. */
static __always_inline __u32 answer_echo(struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct icmp *icmp;
	__u32 sum;
	__be32 swap;

	if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_ICMP)
		return DROP_UNKNOWN_DESTINATION;
	icmp = (void *)ip + ip->ihl * 4;
	if ((void *)(icmp + 1) > end || icmp->type != ICMP_ECHO)
		return DROP_UNKNOWN_DESTINATION;
	swap = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = swap;
	icmp->type = ICMP_ECHOREPLY;
	sum = (__u32)icmp->checksum + bpf_htons(ICMP_ECHO << 8); /* RFC 1624 */
	icmp->checksum = (sum & 0xffff) + (sum >> 16);
	answer_ethernet(eth);
	return 0;
}

/* One router hop. The header's sum is always complete, so it is corrected here (RFC 1624). */
static __always_inline void decrease_ttl(struct iphdr *ip)
{
	__u32 sum = (__u32)ip->check + bpf_htons(0x0100);

	ip->check = (sum & 0xffff) + (sum >> 16);
	ip->ttl--;
}

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

/* Turns an endpoint's Ethernet frame into an ICMP error from `from` to it (RFC 792): header and 8 bytes of the original
 * behind it. `mtu`: 0, or what fits (RFC 1191). 0 when the answer stands. */
static __always_inline int answer_error(struct __sk_buff *skb, __be32 from, __be32 endpoint, __u8 type, __u8 code,
					__u16 mtu)
{
	struct ethhdr *eth;
	struct icmp_error *e;
	__u16 *words;
	__u32 sum = 0;

	if (bpf_skb_change_tail(skb, sizeof(*eth) + ERROR_QUOTE, 0) ||
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
	if (p->header != sizeof(r->ip) || p->tcp_flags & TCP_RST || (void *)(r + 1) > (void *)(long)skb->data_end)
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
	return answer_error(skb, p->key.dst.w[3], p->key.src.w[3], ICMP_DEST_UNREACH, ICMP_PORT_UNREACHABLE, 0);
}

#endif
