/* Services at a member of the VPC set: which backend a new flow gets, and whether an old one may stay. Used by bounce. */
#ifndef MIZAR_SERVICE_H
#define MIZAR_SERVICE_H

#include "packet.h"
#include <linux/in.h>

enum service_choice {
	SERVICE_NONE,	 /* the destination is no service */
	SERVICE_CHOSEN,	 /* packet.nat_addr, nat_port */
	SERVICE_EMPTY,
	SERVICE_PING,
	SERVICE_EGRESS,	 /* the same, and it is outside of every VPC */
};

static __always_inline int service_choose(struct packet *p)
{
	struct service_key key = {
		.vni = p->key.vni, .vip = p->key.dst.w[3], .port = p->key.dport, .proto = p->key.proto};
	struct maglev_key slot = {.vni = key.vni, .vip = key.vip, .proto = key.proto};
	struct service_row *service;
	struct maglev_row *backend;

	if (key.proto == IPPROTO_ICMP)
		key.port = 0;
	slot.port = key.port;
	service = bpf_map_lookup_elem(&services, &key);
	if (!service)
		return SERVICE_NONE;
	if (key.proto == IPPROTO_ICMP)
		return SERVICE_PING;
	if (!service->size)
		return SERVICE_EMPTY;
	slot.slot = (service->flags & SERVICE_AFFINITY ? mix(p->key.src.w[3]) : p->hash) % service->size;
	backend = bpf_map_lookup_elem(&maglev, &slot);
	if (!backend)
		return SERVICE_EMPTY;
	p->flags |= WIRE_NATED;
	p->nat_addr = backend->addr;
	p->nat_port = backend->port;
	return backend->flags & BACKEND_EGRESS ? SERVICE_EGRESS : SERVICE_CHOSEN;
}

/* A revalidation names the backend it has: its row, while it may stay. */
static __always_inline struct backend_row *service_keeps(const struct packet *p)
{
	struct backend_key key = {.vni = p->key.vni, .addr = p->nat_addr, .vip = p->key.dst.w[3], .port = p->nat_port,
				  .vip_port = p->key.dport, .proto = p->key.proto};

	return bpf_map_lookup_elem(&backends, &key);
}

/* Is the source some service's backend? */
static __always_inline int service_backend(const struct packet *p)
{
	struct backend_key key = {
		.vni = p->key.vni, .addr = p->key.src.w[3], .port = p->key.sport, .proto = p->key.proto};

	return bpf_map_lookup_elem(&backends, &key) != NULL;
}

#endif
