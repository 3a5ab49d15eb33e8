/* The one way a packet ends: a named reason, counted by VPC. Called by the skins with what the steps decided. */
#ifndef MIZAR_DROP_H
#define MIZAR_DROP_H

#include "maps.h"

/* `vni` 0: the VPC was not known yet. A full table counts under VNI 0 instead of losing the count. */
static __always_inline void drop_count(__u32 vni, __u32 reason)
{
	struct drop_key key = {.vni = vni, .reason = reason};
	__u64 one = 1, *value = bpf_map_lookup_elem(&drops, &key);

	if (!value && bpf_map_update_elem(&drops, &key, &one, BPF_NOEXIST)) {
		key.vni = 0;
		value = bpf_map_lookup_elem(&drops, &key);
	}
	if (value)
		*value += 1;
}

#endif
