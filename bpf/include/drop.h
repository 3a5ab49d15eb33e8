/* The one way a packet ends: a named reason, counted by VPC. Called by the skins with what the steps decided. */
#ifndef MIZAR_DROP_H
#define MIZAR_DROP_H

#include "vpc.h"

/* A row for every reason under VNI 0, while there is room: what finds no row of its own is counted there. */
static __always_inline void drop_rows(void)
{
	struct drop_key key = {.reason = DROP_COUNT - 1};
	__u64 none = 0;

	if (bpf_map_lookup_elem(&drops, &key))
		return;
#pragma clang loop unroll(disable)
	for (__u32 reason = 0; reason < DROP_COUNT; reason++) {
		key.reason = reason;
		bpf_map_update_elem(&drops, &key, &none, BPF_NOEXIST);
	}
}

/* Under VNI 0 is counted what belongs to no VPC of this host (a VNI off the wire is anybody's word), and what would be
 * the first of its kind in a full table. */
__attribute__((noinline)) int drop_count(__u32 vni, __u32 reason)
{
	struct drop_key key = {.vni = vni, .reason = reason};
	__u64 one = 1, *value = bpf_map_lookup_elem(&drops, &key);

	if (!value) {
		drop_rows();
		if (!vni || !vpc_find(vni) || bpf_map_update_elem(&drops, &key, &one, BPF_NOEXIST))
			key.vni = 0;
		else
			return 0;
		value = bpf_map_lookup_elem(&drops, &key);
	}
	if (value)
		*value += 1;
	return 0;
}

#endif
