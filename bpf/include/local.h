/* What an endpoint is answered in its gateway's place: ARP and the gateway's ping (endpoint.bpf.c), and a VIP's ping, which
 * the answer of another host may bring about (transit.bpf.c). Each answer is written over the question.
 */
#ifndef MIZAR_LOCAL_H
#define MIZAR_LOCAL_H

#include "parse.h"
#include "wire.h"
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

/* Echo request to the gateway or a VIP becomes its reply. The sum of a pod's echo is complete: it is never offloaded. */
static __always_inline __u32 answer_echo(const struct packet *p, struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct icmp *icmp;
	__u32 sum;
	__be32 swap;

	if (p->later_fragment || (void *)(ip + 1) > end || ip->protocol != IPPROTO_ICMP)
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

#endif
