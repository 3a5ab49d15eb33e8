/* Changes addresses and ports in a packet's bytes, and its sums with them. TC only: the kernel's helpers know whether a
 * sum is complete or still to be completed by a device, which XDP cannot see. Called by the TC skins.
 */
#ifndef MIZAR_REWRITE_H
#define MIZAR_REWRITE_H

#include "parse.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

/* An IP header's addresses, and its sum. */
static __always_inline int rewrite_addresses(struct __sk_buff *skb, __u32 l3, __be32 was_src, __be32 src, __be32 was_dst,
					     __be32 dst)
{
	bpf_l3_csum_replace(skb, l3 + offsetof(struct iphdr, check), was_src, src, sizeof(src));
	bpf_l3_csum_replace(skb, l3 + offsetof(struct iphdr, check), was_dst, dst, sizeof(dst));
	if (bpf_skb_store_bytes(skb, l3 + offsetof(struct iphdr, saddr), &src, sizeof(src), 0) ||
	    bpf_skb_store_bytes(skb, l3 + offsetof(struct iphdr, daddr), &dst, sizeof(dst), 0))
		return -1;
	return 0;
}

/* An ICMP error: its own addresses, and the packet that it quotes, which went the other way. The quoted transport's sum may
 * lie behind the quote's end. What changes in the quoted IP header leaves the message's sum as it is. */
static __always_inline int rewrite_error(struct __sk_buff *skb, const struct packet *p, __u32 l3)
{
	__u32 icmp = l3 + p->header, quote = icmp + sizeof(struct icmp), l4 = quote + p->quoted, sum;
	__u32 icmp_sum = icmp + offsetof(struct icmp, checksum);
	__be32 src = p->key.src.w[3], dst = p->key.dst.w[3], from;
	__u64 flags = p->key.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__sum16 before, after;

	/* Another than the peer may have sent it: a router on the way keeps its name. */
	if (bpf_skb_load_bytes(skb, l3 + offsetof(struct iphdr, saddr), &from, sizeof(from)) ||
	    rewrite_addresses(skb, l3, from, from == p->was_src ? src : from, p->was_dst, dst) ||
	    rewrite_addresses(skb, quote, p->was_dst, dst, p->was_src, src))
		return -1;
	sum = l4 + (flags ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));
	if (!bpf_skb_load_bytes(skb, sum, &before, sizeof(before))) {
		bpf_l4_csum_replace(skb, sum, p->was_src, src, flags | sizeof(src));
		bpf_l4_csum_replace(skb, sum, p->was_dst, dst, flags | sizeof(dst));
		bpf_l4_csum_replace(skb, sum, p->was_sport, p->key.sport, flags | sizeof(p->key.sport));
		bpf_l4_csum_replace(skb, sum, p->was_dport, p->key.dport, flags | sizeof(p->key.dport));
		if (bpf_skb_load_bytes(skb, sum, &after, sizeof(after)))
			return -1;
		bpf_l4_csum_replace(skb, icmp_sum, before, after, sizeof(after));
	}
	bpf_l4_csum_replace(skb, icmp_sum, p->was_sport, p->key.sport, sizeof(p->key.sport));
	bpf_l4_csum_replace(skb, icmp_sum, p->was_dport, p->key.dport, sizeof(p->key.dport));
	if (bpf_skb_store_bytes(skb, l4, &p->key.dport, sizeof(p->key.dport), 0) ||
	    bpf_skb_store_bytes(skb, l4 + 2, &p->key.sport, sizeof(p->key.sport), 0))
		return -1;
	return 0;
}

/* `l3`: offset of the inner IP header. 0, or -1 when the kernel refused. Packet pointers are void afterwards. */
static __always_inline int rewrite_packet(struct __sk_buff *skb, const struct packet *p, __u32 l3)
{
	__u32 l4 = l3 + p->header, sum = l4 + offsetof(struct tcphdr, check);
	__u64 flags = 0;
	__be32 src = p->key.src.w[3], dst = p->key.dst.w[3];

	if (p->icmp_error)
		return rewrite_error(skb, p, l3);
	if (p->key.proto == IPPROTO_UDP) {
		sum = l4 + offsetof(struct udphdr, check);
		flags = BPF_F_MARK_MANGLED_0; /* a sum of 0 means none, and stays so */
	}
	if (!p->later_fragment) {
		bpf_l4_csum_replace(skb, sum, p->was_src, src, flags | BPF_F_PSEUDO_HDR | sizeof(src));
		bpf_l4_csum_replace(skb, sum, p->was_dst, dst, flags | BPF_F_PSEUDO_HDR | sizeof(dst));
		bpf_l4_csum_replace(skb, sum, p->was_sport, p->key.sport, flags | sizeof(p->key.sport));
		bpf_l4_csum_replace(skb, sum, p->was_dport, p->key.dport, flags | sizeof(p->key.dport));
		if (bpf_skb_store_bytes(skb, l4, &p->key.sport, sizeof(p->key.sport), 0) ||
		    bpf_skb_store_bytes(skb, l4 + 2, &p->key.dport, sizeof(p->key.dport), 0))
			return -1;
	}
	return rewrite_addresses(skb, l3, p->was_src, src, p->was_dst, dst);
}

#endif
