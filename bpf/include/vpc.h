/* The VPC set and its bouncers: who is asked, and whose word counts; and which endpoints live here. Used by nearly all
 * steps. */
#ifndef MIZAR_VPC_H
#define MIZAR_VPC_H

#include "packet.h"

static __always_inline struct vpc_row *vpc_find(__u32 vni)
{
	struct vpc_key key = {.vni = vni};

	return bpf_map_lookup_elem(&vpcs, &key);
}

static __always_inline struct local_row *local_find(__u32 vni, const struct addr *addr)
{
	struct endpoint_key key = {.vni = vni, .addr = *addr};

	return bpf_map_lookup_elem(&locals, &key);
}

/* Whom STEP_HAND, STEP_ECHO and STEP_REFUSE are for. */
static __always_inline void hand_to(struct packet *p, const struct local_row *local)
{
	p->ifindex = local->ifindex;
	p->queued = local->queued;
	__builtin_memcpy(p->mac, local->mac, sizeof(p->mac));
}

static __always_inline __u32 places(__u32 mask)
{
	mask = (mask & 0x5555) + (mask >> 1 & 0x5555);
	mask = (mask & 0x3333) + (mask >> 2 & 0x3333);
	mask = (mask & 0x0f0f) + (mask >> 4 & 0x0f0f);
	return (mask & 0x00ff) + (mask >> 8);
}

/* Address of member number `n` (counted from 0) among those in `mask`; 0 if there are fewer. */
static __always_inline __be32 vpc_member(const struct vpc_row *vpc, __u32 mask, __u32 n)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SET_PLACES; i++) {
		if (!(mask >> i & 1))
			continue;
		if (!n--)
			return vpc->members[i];
	}
	return 0;
}

static __always_inline int vpc_accepts(const struct vpc_row *vpc, __be32 host)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SET_PLACES; i++) {
		if (vpc->accept >> i & 1 && vpc->members[i] == host)
			return 1;
	}
	return 0;
}

static __always_inline int underlay_host(const struct config *c, __be32 host)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < UNDERLAY_PREFIXES; i++) {
		if (c->underlay[i].mask && (host & c->underlay[i].mask) == c->underlay[i].address)
			return 1;
	}
	return 0;
}

#endif
