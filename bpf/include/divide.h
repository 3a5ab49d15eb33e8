/* Step divide: every member of the VPC set knows the VPC's subnets. Finds the destination's subnet and who bounces it. */
#ifndef MIZAR_DIVIDE_H
#define MIZAR_DIVIDE_H

#include "vpc.h"

static __always_inline struct serving_row *serving_find(__u32 vni, __be32 subnet)
{
	struct subnet_key key = {.vni = vni, .subnet = subnet};

	return bpf_map_lookup_elem(&serving, &key);
}

/* The subnet that holds `addr`, through `out`; 0 if none does. */
static __always_inline int divide_route(__u32 vni, const struct addr *addr, __be32 *out)
{
	struct route_key key = {.prefixlen = 32 + 128, .vni = bpf_htonl(vni), .addr = *addr};
	struct route_row *row = bpf_map_lookup_elem(&routes, &key);

	if (!row)
		return 0;
	*out = row->subnet;
	return 1;
}

/* The bouncer of `subnet` for this packet. Its own choice, not the asker's: both must vary for every pair to be tried. */
static __always_inline __be32 divide_bouncer(const struct packet *p, const struct vpc_row *vpc, __be32 subnet)
{
	struct subnet_key key = {.vni = p->key.vni, .subnet = subnet};
	struct subnet_row *row = bpf_map_lookup_elem(&subnets, &key);
	__u32 mask = row ? row->bouncers & vpc->ask : 0, n = places(mask);

	if (!n)
		return 0;
	return vpc_member(vpc, mask, (mix(p->hash + 0x9e3779b1) + p->attempt + p->attempt / n) % n);
}

#endif
