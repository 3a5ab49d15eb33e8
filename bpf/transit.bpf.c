/* Transit program: everything that reaches this host's uplink for the tunnel port, and what comes back to endpoints from
 * outside of every VPC.
 *
 * transit_xdp answers and passes on queries as early as a packet can be seen; it changes nothing else. transit_tc behind
 * it does all the rest, and queries too where XDP is absent or could not send: same core, same maps. It also stands behind
 * the outlet, where this host's own stack sends what is for endpoints.
 */
#include "skin.h"
#include <linux/if_link.h>

/* The frame's next hop, in its Ethernet header. Back to where it came from it is known; elsewhere the neighbour must be. */
static __always_inline int next_hop(struct xdp_md *ctx, const struct config *c, struct ethhdr *eth,
				    const struct packet *p)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET, .l4_protocol = IPPROTO_UDP, .tot_len = 0, .ifindex = c->uplink,
		.ipv4_src = p->self, .ipv4_dst = p->to};
	__u8 mac[ETH_ALEN];

	if (p->to == p->from) {
		__builtin_memcpy(mac, eth->h_source, ETH_ALEN);
		__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
		__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
		return 0;
	}
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), BPF_FIB_LOOKUP_OUTPUT) || fib.ifindex != c->uplink)
		return -1;
	__builtin_memcpy(eth->h_source, fib.smac, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, fib.dmac, ETH_ALEN);
	return 0;
}

SEC("xdp")
int transit_xdp(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct wire *w = (void *)(eth + 1);
	struct packet *p;
	struct config *c = config_get();

	/* What this program does not answer, and what is wrong, is TC's: it sees the same bytes and counts the drop. */
	if (!c || (void *)(w + 1) > end || wire_is_ours(eth, w, end, c->self) != 1 || wire_type(w) != WIRE_QUERY)
		return XDP_PASS;
	p = packet_new(HOOK_XDP);
	if (!p)
		return XDP_PASS;
	p->self = c->self;
	p->now = now_ticks();
	if (wire_read(w, p))
		return XDP_PASS;
	if (parse_inner(c, w + 1, end, end - (void *)(w + 1), p))
		return XDP_PASS;
	switch (step_bounce(p)) {
	case STEP_SEND:
		break;
	case STEP_DROP:
		drop_count(p->key.vni, p->reason);
		return XDP_DROP;
	default: /* this host is the asker: a verdict to itself, which TC applies */
		return XDP_PASS;
	}
	if (next_hop(ctx, c, eth, p))
		return XDP_PASS;
	bounce_count(p);
	if ((w->ip.tos & ECN_MASK) == ECN_CE)
		p->tos |= ECN_CE; /* congestion met by the query is met by its answer */
	wire_write(w, p);
	return c->flags & CONFIG_XDP_REDIRECT ? bpf_redirect(c->uplink, 0) : XDP_TX;
}

/* Removes the outer headers. RFC 6040: congestion met outside must show inside. 0 or the reason to drop. */
static __always_inline __u32 decapsulate(struct __sk_buff *skb, __u8 outer_ecn)
{
	struct iphdr *ip;
	__u16 before;
	__u32 sum;

	if (bpf_skb_adjust_room(skb, -WIRE_BYTES, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_ENCAPSULATION;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if (outer_ecn != ECN_CE || (void *)(ip + 1) > (void *)(long)skb->data_end)
		return 0;
	if (!(ip->tos & ECN_MASK))
		return DROP_CONGESTION_MARK;
	before = ip->tos;
	ip->tos |= ECN_CE;
	sum = (__u32)ip->check + bpf_htons(before) + (__u16)~bpf_htons(ip->tos); /* RFC 1624, equation 3 */
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (sum & 0xffff) + (sum >> 16);
	return 0;
}

/* The answer is that the packet leaves the VPC. */
static __always_inline int let_out(struct __sk_buff *skb, const struct config *c, struct packet *p, __u8 outer_ecn)
{
	p->reason = decapsulate(skb, outer_ecn);
	return p->reason ? refuse(p) : send_outside(skb, c, p);
}

/* To the endpoint: the packet itself, or what its own packet is answered with. */
static __always_inline int deliver(struct __sk_buff *skb, struct packet *p, __u8 outer_ecn, int step)
{
	__u32 reason = decapsulate(skb, outer_ecn);
	struct ethhdr *eth = (void *)(long)skb->data;

	if (step == STEP_REFUSE) {
		drop_count(p->key.vni, p->reason);
		if (reason || answer_refused(skb, p))
			return TC_ACT_SHOT;
		return hand_over(skb, p);
	}
	if (!reason && step == STEP_ECHO) {
		if ((void *)(eth + 1) <= (void *)(long)skb->data_end)
			reason = answer_echo(p, eth, (void *)(long)skb->data_end);
		if (!reason)
			count(COUNTER_GATEWAY_REPLIES);
	}
	if (!reason)
		return hand_over(skb, p);
	p->reason = reason;
	return refuse(p);
}

static __always_inline int transit_step(__u8 type)
{
	switch (type) {
	case WIRE_QUERY:
		return STEP_BOUNCE;
	case WIRE_VERDICT:
		return STEP_VERDICT;
	case WIRE_NOT_HERE:
		return STEP_NOT_HERE;
	default:
		return STEP_ARRIVE;
	}
}

static __always_inline int is_udp(const struct __sk_buff *skb)
{
	const struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;

	return (const void *)(ip + 1) > (void *)(long)skb->data_end || ip->protocol == IPPROTO_UDP;
}

/* Is it a frame of the tunnel? As wire_is_ours. */
static __always_inline int is_tunnels(struct __sk_buff *skb, const struct config *c)
{
	struct ethhdr *eth;
	struct wire *w;

	if (!is_udp(skb))
		return 0;
	make_readable(skb, WIRE_BYTES);
	eth = (void *)(long)skb->data;
	w = (void *)(eth + 1);
	if ((void *)(w + 1) > (void *)(long)skb->data_end)
		return 0;
	return wire_is_ours(eth, w, (void *)(long)skb->data_end, c->self);
}

/* Could it be for a flow of an endpoint? One look at the headers, before anything is spent on the machine's own traffic. */
static __always_inline int is_answer(const struct __sk_buff *skb, __be32 own)
{
	const struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	const void *l4 = (const void *)ip + sizeof(*ip), *end = (void *)(long)skb->data_end;
	const struct ports *ports = l4;

	if (l4 > end || ip->daddr != own || ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return 0;
	if (ip->ihl != 5 || l4 + sizeof(*ports) > end)
		return 1; /* a closer look is needed */
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return bpf_ntohs(ports->dest) >= EGRESS_PORT_BASE;
	case IPPROTO_ICMP:
		return icmp_is_error(*(const __u8 *)l4);
	default:
		return 0;
	}
}

/* The packet's key, as it came. 0, or -1: it is none that an endpoint could wait for. */
static __always_inline int read_answer(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	void *end = (void *)(long)skb->data_end;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return -1;
	p->key.src = mapped(ip->saddr);
	p->key.dst = mapped(ip->daddr);
	p->key.proto = ip->protocol;
	p->header = ip->ihl * 4;
	p->fragment = !!(ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS));
	return parse_l4((void *)ip + p->header, end, p) ? -1 : 0;
}

/* What is not the tunnel's: for an endpoint that sent something out of its VPC, or the machine's own, which is left as it
 * came. Behind the outlet there is no machine: what its stack sends there, endpoints get or nobody. A function of its own:
 * merged with what else reads packet pointers here, the compiler makes plain numbers of them. */
static __attribute__((noinline)) int from_outside(struct __sk_buff *skb, const struct config *c, int outlet)
{
	struct packet *p;
	struct iphdr *ip;

	if (!is_answer(skb, outlet ? c->outlet_address : c->self))
		return outlet ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	make_readable(skb, 0);
	p = packet_new(HOOK_TC);
	if (!p)
		return TC_ACT_SHOT;
	p->self = c->self;
	p->now = now_ticks();
	p->reason = DROP_UNKNOWN_REPLY;
	if (read_answer(skb, p) || step_return(p) != STEP_HAND)
		return outlet ? refuse(p) : TC_ACT_UNSPEC;
	ip = (void *)(long)skb->data + ETH_HLEN;
	p->reason = 0;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		p->reason = DROP_MALFORMED;
	else if (p->fragment)
		p->reason = DROP_EGRESS_FRAGMENT; /* the others of its datagram do not say whose they are */
	else if (ip->ttl <= 1)
		p->reason = DROP_TTL;
	if (p->reason)
		return refuse(p);
	decrease_ttl(ip);
	if (rewrite_packet(skb, p, ETH_HLEN)) {
		p->reason = DROP_ENCAPSULATION;
		return refuse(p);
	}
	return hand_over(skb, p);
}

SEC("tc")
int transit_tc(struct __sk_buff *skb)
{
	struct config *c = config_get();
	struct packet *p;
	struct wire *w;
	void *end;
	__u8 outer_ecn;
	int ours, step, outlet;

	if (!c)
		return TC_ACT_UNSPEC;
	outlet = skb->ifindex == c->outlet;
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present) /* another VLAN is another network */
		return outlet ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	ours = outlet ? 0 : is_tunnels(skb, c);
	if (!ours)
		return from_outside(skb, c, outlet);
	w = (void *)(long)skb->data + ETH_HLEN;
	end = (void *)(long)skb->data_end;
	if ((void *)(w + 1) > end)
		return TC_ACT_SHOT; /* cannot be: the verifier does not know */
	p = packet_new(HOOK_TC);
	if (!p)
		return TC_ACT_SHOT;
	p->self = c->self;
	p->now = now_ticks();
	p->reason = ours < 0 ? DROP_OUTER_HEADER : wire_read(w, p);
	if (!p->reason)
		p->reason = parse_inner(c, w + 1, end, skb->len - ETH_HLEN - WIRE_BYTES, p);
	if (p->reason)
		return refuse(p);
	outer_ecn = w->ip.tos & ECN_MASK;
	if (outer_ecn == ECN_CE)
		p->tos |= ECN_CE; /* kept should the message go on */
	if (p->type == WIRE_DATA)
		count(COUNTER_DATA_RECEIVED);

	step = core_run(p, transit_step(p->type));
	if (p->rewrite && (step == STEP_SEND || step == STEP_HAND || step == STEP_OUT) &&
	    rewrite_packet(skb, p, ETH_HLEN + WIRE_BYTES)) {
		p->reason = DROP_ENCAPSULATION;
		return refuse(p);
	}
	switch (step) {
	case STEP_SEND:
		return send_in_place(skb, c, p, 0);
	case STEP_OUT:
		return let_out(skb, c, p, outer_ecn);
	case STEP_HAND:
	case STEP_ECHO:
	case STEP_REFUSE:
		return deliver(skb, p, outer_ecn, step);
	case STEP_END:
		return TC_ACT_SHOT; /* the answer was applied; an answer alone goes nowhere */
	default:
		return refuse(p);
	}
}

char _license[] SEC("license") = "Dual MIT/GPL";
