/* Endpoint program: everything an endpoint sends. TC ingress on the host side of its veth.
 *
 * Checks that the endpoint speaks for itself, answers what its gateway would, and hands the rest to the core.
 */
#include "skin.h"

static __always_inline __u32 check_frame(const struct port_row *port, const struct ethhdr *eth)
{
	if (!same_mac(eth->h_source, port->mac))
		return DROP_SOURCE_MAC;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return DROP_UNSUPPORTED_PROTOCOL;
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
	if (is_gateway(port, ip->daddr)) {
		p->reason = answer_echo(eth, end);
		if (p->reason)
			return STEP_DROP;
		count(COUNTER_GATEWAY_REPLIES);
		return STEP_END;
	}
	if (ip->ttl <= 1) {
		/* Never an error about an error (RFC 1122 3.2.2). */
		p->reason = p->icmp_error ? DROP_TTL : answer_exceeded(skb, port->gateway, port->addr.w[3]);
		drop_count(p->key.vni, DROP_TTL);
		return p->reason ? STEP_DROP : STEP_END;
	}
	decrease_ttl(ip);
	return core_run(p, STEP_EGRESS);
}

SEC("tc")
int endpoint_tc(struct __sk_buff *skb)
{
	struct port_key key = {.ifindex = skb->ifindex};
	struct port_row *port = bpf_map_lookup_elem(&ports, &key);
	struct config *c = config_get();
	struct packet p = {.hook = HOOK_ENDPOINT};
	struct ethhdr *eth;

	if (!c || !port) {
		p.reason = c ? DROP_NO_ENDPOINT : DROP_NO_CONFIG;
		return refuse(&p);
	}
	make_readable(skb);
	p.key.vni = port->vni;
	p.self = c->self;
	p.slot = port->slot;
	p.own_tag = port->tag;
	p.subnet = port->subnet;
	p.now = now_ticks();

	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end) {
		p.reason = DROP_MALFORMED;
		return refuse(&p);
	}
	if (eth->h_proto == bpf_htons(ETH_P_ARP)) {
		p.reason = answer_arp(port, eth, (void *)(long)skb->data_end);
		return p.reason ? refuse(&p) : bpf_redirect(skb->ifindex, 0);
	}
	p.reason = check_frame(port, eth);
	if (p.reason)
		return refuse(&p);
	switch (endpoint_packet(skb, c, port, &p)) {
	case STEP_SEND:
		return send_encapsulated(skb, c, &p);
	case STEP_HAND:
		return hand_over(skb, &p);
	case STEP_END:
		return bpf_redirect(skb->ifindex, 0);
	default:
		return p.reason == DROP_TTL ? TC_ACT_SHOT : refuse(&p);
	}
}

char _license[] SEC("license") = "Dual MIT/GPL";
