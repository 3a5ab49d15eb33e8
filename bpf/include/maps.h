/* All maps, pinned by name in the host's folder and shared by every program of the host. Sizes are upper bounds:
 * the agent may ask for others at load. */
#ifndef MIZAR_MAPS_H
#define MIZAR_MAPS_H

#include "abi.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MIZAR_MAP(map_type, map_name, key_type, value_type, entries, flags_) \
	struct {                                                            \
		__uint(type, map_type);                                     \
		__uint(max_entries, entries);                               \
		__uint(map_flags, flags_);                                  \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                        \
		__type(key, key_type);                                      \
		__type(value, value_type);                                  \
	} map_name SEC(".maps")

MIZAR_MAP(BPF_MAP_TYPE_ARRAY, config, __u32, struct config, 1, 0);

MIZAR_MAP(BPF_MAP_TYPE_HASH, vpcs, struct vpc_key, struct vpc_row, 4096, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, subnets, struct subnet_key, struct subnet_row, 65536, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_LPM_TRIE, routes, struct route_key, struct route_row, 65536, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, serving, struct subnet_key, struct serving_row, 65536, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, endpoints, struct endpoint_key, struct endpoint_row, 1 << 20, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, services, struct service_key, struct service_row, 65536, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, maglev, struct maglev_key, struct maglev_row, 1 << 20, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, backends, struct backend_key, struct backend_row, 1 << 18, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, locals, struct endpoint_key, struct local_row, 16384, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, ports, struct port_key, struct port_row, 16384, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_HASH, listed, struct listed_key, struct listed_row, 256, BPF_F_NO_PREALLOC);

/* What is below is written by the programs. LRUs are preallocated: an insertion never waits for memory. */
MIZAR_MAP(BPF_MAP_TYPE_LRU_HASH, asked, struct flow_key, struct asked_entry, 8192, 0);
MIZAR_MAP(BPF_MAP_TYPE_LRU_HASH, bouncers, struct bouncer_key, struct bouncer_state, 4096, 0);
MIZAR_MAP(BPF_MAP_TYPE_LRU_HASH, budgets, struct budget_key, struct budget, 16384, 0);
MIZAR_MAP(BPF_MAP_TYPE_LRU_HASH, fragments, struct fragment_key, struct fragment_row, 1024, 0);
/* No LRU: nobody's flow may push out another's. Rows are few where nothing is listed, so they are not allocated before. */
MIZAR_MAP(BPF_MAP_TYPE_HASH, egress, struct egress_key, struct egress_row, 32768, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_PERCPU_HASH, drops, struct drop_key, __u64, 8192, BPF_F_NO_PREALLOC);
MIZAR_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, counters, __u32, __u64, COUNTER_COUNT, 0);

/* A VPC's flow table. The agent makes one of the size it wants for each slot it uses; slot 0 stays empty. */
struct flow_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(struct flow_key)); /* clang leaves types out that only an inner map names */
	__uint(value_size, sizeof(struct flow_entry));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__array(values, struct flow_table);
} flows SEC(".maps");

/* The same for the NAT pairs of a VPC: plain flows must not push them out. */
struct nat_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__uint(key_size, sizeof(struct flow_key));
	__uint(value_size, sizeof(struct nat_entry));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__array(values, struct nat_table);
} nats SEC(".maps");

static __always_inline struct config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

/* Ticks that lie between one CPU's reading of the clock and another's, at most. */
#define CLOCK_SKEW 1024

/* Ticks from `then` to `now`, 32 bits that may wrap. 0 when `then` is a little later: another CPU may have stamped an
 * entry after this program read its own clock. What seems to be further ahead is long past. */
static __always_inline __u32 elapsed(__u32 now, __u32 then)
{
	return then - now < CLOCK_SKEW ? 0 : now - then;
}

static __always_inline __u32 now_ticks(void)
{
	return (__u32)bpf_jiffies64();
}

#endif
