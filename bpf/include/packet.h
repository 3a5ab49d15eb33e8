/* A packet as the steps see it: what was read from its bytes, what was looked up, and what was decided.
 *
 * The skins (transit.bpf.c, endpoint.bpf.c) fill it by parse.h, run steps over it by core.h, and write its bytes by
 * wire.h.  A step never touches the packet itself, so one core serves XDP and TC alike.
 */
#ifndef MIZAR_PACKET_H
#define MIZAR_PACKET_H

#include "maps.h"
#include <bpf/bpf_endian.h>

/* What comes next. The first eight end the run. */
enum step {
	STEP_DROP = 0, /* packet.reason */
	STEP_SEND,     /* to host packet.to */
	STEP_OUT,      /* as it is, to packet.to: an address outside of every VPC */
	STEP_PASS,     /* it is the machine's own business */
	STEP_HAND,     /* to the local endpoint behind packet.ifindex */
	STEP_ECHO,     /* answer the ping and hand it back to the local endpoint behind packet.ifindex */
	STEP_REFUSE,   /* tell the local endpoint behind packet.ifindex that nobody is there; counted under packet.reason */
	STEP_END,      /* the packet has done its duty */
	STEP_EGRESS,
	STEP_REVALIDATE, /* packet is a clone that only asks */
	STEP_PROBE,	 /* packet is a clone that asks the dead bouncer at packet.probe */
	STEP_ASK,
	STEP_BOUNCE,
	STEP_VERDICT,
	STEP_LEAVE, /* the verdict: out of the VPC, to packet.nat_addr */
	STEP_ARRIVE,
	STEP_NOT_HERE,
};

/* Which program runs the steps; decides only which counter rises. */
enum hook {
	HOOK_XDP,
	HOOK_TC,
	HOOK_ENDPOINT,
};

struct packet {
	struct flow_key key; /* direction of the packet; for an ICMP error, of the flow it answers */
	__be32 self;
	__be32 from;	/* host the message came from; self for a step taken in the same run */
	__be32 to;	/* host to send to */
	__be32 asker;	/* query: the asking host */
	__be32 target;	/* verdict: the destination's host; not-here: its new host or 0 */
	__be32 nat_addr;
	__be32 subnet;	/* of the local source endpoint */
	__u32 slot;	/* flow table of the local endpoint at hand */
	__u32 hash;	/* of key */
	__u32 now;	/* ticks */
	__u32 ifindex;	/* STEP_HAND */
	__u32 length;	/* bytes from the inner IP header on */
	__u32 reason;	/* STEP_DROP */
	__be32 was_src; /* rewrite: what the packet still says; `key` says what it becomes */
	__be32 was_dst;
	__be16 was_sport;
	__be16 was_dport;
	__be16 nat_port;
	__be16 peer_tag;  /* tag of the destination */
	__be16 own_tag;	  /* tag of the source */
	__be16 identity;
	__u8 mac[6];	/* STEP_HAND: the endpoint's */
	__u8 queued;	/* STEP_HAND: by way of its veth's queue */
	__u8 type;
	__u8 flags;	/* WIRE_NATED, WIRE_REPLY, WIRE_STALE */
	__u8 bits;	/* WIRE_ASK_ONLY, WIRE_PASSED, scope */
	__u8 action;
	__u8 hop;
	__u8 attempt;
	__u8 life;
	__u8 version;
	__u8 tcp_flags;
	__u8 tos;
	__u8 icmp_error;
	__u8 hook;
	__u8 revalidate; /* the entry wants to be asked about: send a clone */
	__u8 probe;	 /* place of the bouncer that a clone should probe; SET_PLACES: none */
	__u8 rewrite;
	__u8 header;	/* bytes of the inner IP header */
	__u8 transport; /* bytes of the TCP or UDP header behind it */
	__u8 quoted;	/* of an ICMP error: bytes of the IP header that it quotes */
	__u8 later_fragment;
	__u8 fragment; /* the first or a later one */
};

/* One per CPU instead of one on the stack, which has no room for it beside the steps' own. A program runs to its end with
 * softirqs off, and a clone that it sends is queued, so there is never a second packet at once. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packet_scratch SEC(".maps");

static __always_inline struct packet *packet_new(__u8 hook)
{
	__u32 zero = 0;
	struct packet *p = bpf_map_lookup_elem(&packet_scratch, &zero);

	if (!p)
		return NULL;
	__builtin_memset(p, 0, sizeof(*p));
	p->hook = hook;
	p->probe = SET_PLACES;
	return p;
}

static __always_inline int drop(struct packet *p, __u32 reason)
{
	p->reason = reason;
	return STEP_DROP;
}

static __always_inline struct addr mapped(__be32 v4)
{
	struct addr a = {{0, 0, bpf_htonl(0xffff), v4}};

	return a;
}

static __always_inline int same_addr(const struct addr *a, const struct addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline __u32 mix(__u32 h)
{
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ (h >> 16);
}

/* The same value on every host that sees the flow: bouncers are chosen and source ports are made from it. */
static __always_inline __u32 flow_hash(const struct flow_key *k)
{
	__u32 h = k->vni * 0x9e3779b1;

	h = (h ^ k->src.w[0] ^ (k->src.w[1] << 7) ^ (k->src.w[2] << 13)) * 0x9e3779b1;
	h = (h ^ k->src.w[3]) * 0x85ebca77;
	h = (h ^ k->dst.w[0] ^ (k->dst.w[1] << 7) ^ (k->dst.w[2] << 13)) * 0x9e3779b1;
	h = (h ^ k->dst.w[3]) * 0xc2b2ae3d;
	h = (h ^ ((__u32)k->sport << 16 | k->dport)) * 0x27d4eb2f;
	return mix(h ^ k->proto);
}

static __always_inline struct flow_key reversed(const struct flow_key *k)
{
	struct flow_key r = {
		.vni = k->vni,
		.src = k->dst,
		.dst = k->src,
		.sport = k->dport,
		.dport = k->sport,
		.proto = k->proto,
	};

	return r;
}

#endif
