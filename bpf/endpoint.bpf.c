/* Endpoint program: everything an endpoint sends. TC ingress on the host side of its veth.
 *
 * Checks that the endpoint speaks for itself, answers what its gateway would, and hands the rest to the core.
 */
#include "skin.h"

static __always_inline __u32 check_frame(const struct __sk_buff *skb, const struct port_row *port, const struct ethhdr *eth)
{
	if (skb->vlan_present)
		return DROP_UNSUPPORTED_PROTOCOL; /* the kernel keeps the tag aside, and would put it on what leaves the host */
	if (!same_mac(eth->h_source, port->mac))
		return DROP_SOURCE_MAC;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return DROP_UNSUPPORTED_PROTOCOL;
	return 0;
}

/* Marks of clones. Packets of endpoints carry none: the veth clears it on the way out of another namespace. */
#define MARK_REVALIDATE 0x6d7a0100
#define MARK_PROBE 0x6d7a0200 /* + place */

/* Sends a copy of the packet through this program once more, as a question that nobody forwards. */
static __always_inline void send_clone(struct __sk_buff *skb, __u32 mark)
{
	skb->mark = mark;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	skb->mark = 0;
}

/* A question needs no more than the headers: cut before encapsulation, which also ends its being a super-packet. */
static __always_inline int clone_cut(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	__u32 keep, sum;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	p->probe = skb->mark & (SET_PLACES - 1);
	keep = ip->ihl * 4 + 20; /* a TCP header without options */
	if (keep >= p->length)
		return 0;
	if (bpf_skb_change_tail(skb, ETH_HLEN + keep, 0))
		return -1;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	sum = (__u32)ip->check + ip->tot_len + (__u16)~bpf_htons(keep); /* RFC 1624 */
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (sum & 0xffff) + (sum >> 16);
	ip->tot_len = bpf_htons(keep);
	p->length = keep;
	return 0;
}

/* The packet is plain IPv4 of this endpoint: what becomes of it? */
static __always_inline int endpoint_packet(struct __sk_buff *skb, struct config *c, const struct port_row *port,
					   struct packet *p)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end)
		return drop(p, DROP_MALFORMED);
	if (ip->saddr != port->addr.w[3])
		return drop(p, DROP_SOURCE_ADDRESS);
	p->reason = parse_inner(c, ip, end, skb->len - ETH_HLEN, p);
	if (p->reason)
		return STEP_DROP;
	if (!same_addr(&p->key.src, &port->addr))
		return drop(p, DROP_SOURCE_ADDRESS); /* an error about a flow that is not its own */
	if (is_gateway(port, ip->daddr) && p->key.proto == IPPROTO_ICMP) {
		p->reason = answer_echo(p, eth, end);
		if (p->reason)
			return STEP_DROP;
		count(COUNTER_GATEWAY_REPLIES);
		return STEP_END;
	}
	if (skb->mark) /* a clone of a packet that went through all of this */
		return clone_cut(skb, p) ? STEP_END : core_run(p, skb->mark == MARK_REVALIDATE ? STEP_REVALIDATE : STEP_PROBE);
	if (ip->ttl <= 1) {
		drop_count(p->key.vni, DROP_TTL);
		p->reason = DROP_TTL;
		if (answer_error(skb, p, port->gateway, port->addr.w[3], ICMP_TIME_EXCEEDED, 0, 0))
			return STEP_DROP;
		return STEP_END;
	}
	decrease_ttl(ip);
	return core_run(p, STEP_EGRESS);
}

/* Would the packet, or a segment of it, be larger than the uplink takes with so many bytes in front of its IP header? */
static __always_inline int too_big(const struct __sk_buff *skb, const struct config *c, const struct packet *p, __u32 room)
{
	if (skb->gso_size)
		return skb->gso_size + p->header + p->transport + room > c->mtu;
	return skb->len - ETH_HLEN + room > c->mtu;
}

/* As a router would (RFC 1191): the gateway says how much fits. */
static __always_inline int refuse_too_big(struct __sk_buff *skb, const struct config *c, struct packet *p)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	__be32 endpoint;

	p->reason = DROP_TOO_BIG;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return refuse(p);
	endpoint = ip->saddr;
	drop_count(p->key.vni, p->reason);
	if (answer_error(skb, p, LINK_GATEWAY, endpoint, ICMP_DEST_UNREACH, ICMP_FRAGMENTATION_NEEDED, c->mtu - WIRE_BYTES))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* The ping of a VIP, answered by the host of the bouncer itself. */
static __always_inline int echo_back(struct __sk_buff *skb, struct packet *p)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) <= (void *)(long)skb->data_end)
		p->reason = answer_echo(p, eth, (void *)(long)skb->data_end);
	if (p->reason)
		return refuse(p);
	count(COUNTER_GATEWAY_REPLIES);
	return bpf_redirect(skb->ifindex, 0);
}

/* What the steps decided, done to the packet. */
static __always_inline int carry_out(struct __sk_buff *skb, const struct config *c, struct packet *p, int step)
{
	if ((step == STEP_SEND && too_big(skb, c, p, WIRE_BYTES)) || (step == STEP_OUT && too_big(skb, c, p, 0)))
		return refuse_too_big(skb, c, p);
	if (!skb->mark && p->revalidate)
		send_clone(skb, MARK_REVALIDATE);
	if (!skb->mark && p->probe < SET_PLACES)
		send_clone(skb, MARK_PROBE + p->probe);
	if (p->rewrite && (step == STEP_SEND || step == STEP_HAND || step == STEP_OUT) && rewrite_packet(skb, p, ETH_HLEN)) {
		p->reason = DROP_ENCAPSULATION;
		return refuse(p);
	}
	switch (step) {
	case STEP_ECHO:
		return echo_back(skb, p);
	case STEP_REFUSE:
		drop_count(p->key.vni, p->reason);
		return answer_refused(skb, p) ? TC_ACT_SHOT : bpf_redirect(skb->ifindex, 0);
	case STEP_SEND:
		return send_encapsulated(skb, c, p);
	case STEP_OUT:
		return send_outside(skb, c, p);
	case STEP_HAND:
		return hand_over(skb, p);
	case STEP_END:
		return skb->mark ? TC_ACT_SHOT : bpf_redirect(skb->ifindex, 0);
	default:
		return p->reason == DROP_TTL ? TC_ACT_SHOT : refuse(p);
	}
}

SEC("tc")
int endpoint_tc(struct __sk_buff *skb)
{
	struct port_key key = {.ifindex = skb->ifindex};
	struct port_row *port = bpf_map_lookup_elem(&ports, &key);
	struct config *c = config_get();
	struct packet *p = packet_new(HOOK_ENDPOINT);
	struct ethhdr *eth;

	if (!p)
		return TC_ACT_SHOT;
	if (!c || !port) {
		p->reason = c ? DROP_NO_ENDPOINT : DROP_NO_CONFIG;
		return refuse(p);
	}
	make_readable(skb, 0);
	p->key.vni = port->vni;
	p->self = c->self;
	p->slot = port->slot;
	p->own_tag = port->tag;
	p->subnet = port->subnet;
	p->ifindex = skb->ifindex;
	p->now = now_ticks();

	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end) {
		p->reason = DROP_MALFORMED;
		return refuse(p);
	}
	if (eth->h_proto == bpf_htons(ETH_P_ARP) && !skb->vlan_present) {
		p->reason = answer_arp(port, eth, (void *)(long)skb->data_end);
		return p->reason ? refuse(p) : bpf_redirect(skb->ifindex, 0);
	}
	p->reason = check_frame(skb, port, eth);
	if (p->reason)
		return refuse(p);
	return carry_out(skb, c, p, endpoint_packet(skb, c, port, p));
}

char _license[] SEC("license") = "Dual MIT/GPL";
