/* Programs of the benchmark (node_agent/bench): what makes frames, what swallows and counts them, a bare reflector to
 * hold a bouncer against, and a rival overlay. No part of the data plane: the benchmark compiles it, by bpf/Makefile, into
 * a folder of its own. Nothing is pinned.
 *
 * Live frames are recycled with the bytes that the last reader left in them, so a generator writes every byte anew.
 */
#include "abi.h"
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME 64  /* Ethernet, IPv4, UDP and 22 bytes */
#define QUERY 98  /* Ethernet, 50 bytes of tunnel, IPv4, UDP and 6 bytes */
#define ASKERS 64 /* asking hosts; an endpoint lives on the one of its number modulo this */

struct settings {
	__u32 out;	 /* ifindex that generated frames leave by */
	__u32 redirect;	 /* send back by redirect instead of XDP_TX */
	__u32 endpoints; /* queries are about so many */
	__u32 stride;	 /* number of an endpoint = draw * stride */
	__u32 base;	 /* address of endpoint 0, and of asking host 0, in the host's byte order */
	__u32 askers;
	__be16 sunk;	 /* destination port of frames that are counted */
	__u16 vni;
	__u64 frame[13]; /* what is sent; a query's variable parts are filled in */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

enum count {
	COUNT_FRAMES,
	COUNT_VERDICTS, /* that allow */
	COUNT_OTHERS,
	COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} draws SEC(".maps");

/* The rival's whole knowledge: where an address lives. `remote`, in the host's byte order, or 0 and a device here. */
struct peer {
	__u32 remote;
	__u32 device;
	__u8 mac[6];
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, struct peer);
} peers SEC(".maps");

static __always_inline struct settings *settings_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &which);

	if (value)
		*value += 1;
}

/* --- generators: test runs with live frames; the device is not the run's own, so they redirect --- */

SEC("xdp")
int send_frame(struct xdp_md *ctx)
{
	__u64 *to = (void *)(long)ctx->data;
	struct settings *s = settings_get();

	if (!s || (void *)(to + FRAME / 8) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma clang loop unroll(full)
	for (int i = 0; i < FRAME / 8; i++)
		to[i] = s->frame[i];
	return bpf_redirect(s->out, 0);
}

/* xorshift: the same draws for every program that is compared, and no call. */
static __always_inline __u32 draw(__u32 *state)
{
	__u32 x = *state ? *state : 2463534242;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}

static __always_inline __u32 endpoint(const struct settings *s, __u32 drawn)
{
	return (__u32)((__u64)drawn * s->endpoints >> 32) * s->stride;
}

/* What follows a query's Ethernet header. */
struct query {
	struct iphdr ip;
	struct udphdr udp;
	__u8 vxlan_flags;
	__u8 head;
	__u8 bits;
	__u8 counts;
	__be32 vni_life;
	__be16 identity;
	__be32 asker;
	__u8 nat[6];
	__be16 protocol;
	struct iphdr inner;
	struct udphdr ports;
	__u8 payload[6];
} __attribute__((packed, aligned(2)));

_Static_assert(sizeof(struct query) + ETH_HLEN == QUERY, "query");

SEC("xdp")
int send_query(struct xdp_md *ctx)
{
	struct settings *s = settings_get();
	void *data = (void *)(long)ctx->data;
	struct query *q = data + ETH_HLEN;
	__u32 zero = 0, *state = bpf_map_lookup_elem(&draws, &zero), source, asker;
	__u64 *to = data;

	if (!s || !state || data + QUERY > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma clang loop unroll(full)
	for (int i = 0; i < QUERY / 8; i++)
		to[i] = s->frame[i];
	*(__u16 *)(to + QUERY / 8) = (__u16)s->frame[QUERY / 8];
	source = endpoint(s, draw(state));
	asker = bpf_htonl(s->askers + source % ASKERS);
	q->ip.saddr = asker;
	q->asker = asker;
	q->inner.saddr = bpf_htonl(s->base + source);
	q->inner.daddr = bpf_htonl(s->base + endpoint(s, draw(state)));
	q->ports.source = (__be16)*state;
	return bpf_redirect(s->out, 0);
}

/* --- what is compared with a bouncer: as it sends back, and nothing looked up --- */

SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct settings *s = settings_get();
	__u8 mac[ETH_ALEN];
	__be32 address;

	if (!s || (void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	__builtin_memcpy(mac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	address = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = address;
	return s->redirect ? bpf_redirect(ctx->ingress_ifindex, 0) : XDP_TX;
}

/* --- sinks --- */

static __always_inline __u32 kind_of(const struct query *q, const void *end)
{
	if ((const void *)(q + 1) > end || q->udp.dest != bpf_htons(WIRE_PORT))
		return COUNT_OTHERS;
	return q->head >> 3 == WIRE_VERDICT && (q->bits & WIRE_ACTION_MASK) == ACTION_ALLOW ? COUNT_VERDICTS
											    : COUNT_OTHERS;
}

SEC("xdp")
int sink_queries(struct xdp_md *ctx)
{
	count(kind_of((void *)(long)ctx->data + ETH_HLEN, (void *)(long)ctx->data_end));
	return XDP_DROP;
}

SEC("tc")
int sink_queries_tc(struct __sk_buff *skb)
{
	count(kind_of((void *)(long)skb->data + ETH_HLEN, (void *)(long)skb->data_end));
	return TC_ACT_SHOT;
}

SEC("tc")
int sink_frames(struct __sk_buff *skb)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);
	struct settings *s = settings_get();

	if (!s || (void *)(udp + 1) > (void *)(long)skb->data_end || ip->protocol != IPPROTO_UDP || udp->dest != s->sunk)
		return TC_ACT_UNSPEC;
	count(COUNT_FRAMES);
	return TC_ACT_SHOT;
}

/* --- the rival: a VXLAN device in metadata mode does the headers, TC finds the way --- */

static __always_inline struct peer *peer_of(struct __sk_buff *skb)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	__be32 address;

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > (void *)(long)skb->data_end)
		return NULL;
	address = ip->daddr;
	return bpf_map_lookup_elem(&peers, &address);
}

SEC("tc")
int rival_out(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {.tunnel_ttl = 64};
	struct settings *s = settings_get();
	struct peer *peer = peer_of(skb);

	if (!peer || !s || !peer->remote)
		return TC_ACT_UNSPEC;
	key.tunnel_id = s->vni;
	key.remote_ipv4 = peer->remote;
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX))
		return TC_ACT_SHOT;
	return bpf_redirect(s->out, 0);
}

SEC("tc")
int rival_in(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct peer *peer = peer_of(skb);

	if (!peer || peer->remote || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	__builtin_memcpy(eth->h_dest, peer->mac, ETH_ALEN);
	bpf_skb_change_type(skb, PACKET_HOST); /* it was not for the device's own MAC address */
	return bpf_redirect_peer(peer->device, 0);
}

char _license[] SEC("license") = "Dual MIT/GPL";
