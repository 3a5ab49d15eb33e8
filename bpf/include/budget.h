/* Token buckets: how much an endpoint may ask, and how much a bouncer takes of one host. Used by egress and bounce. */
#ifndef MIZAR_BUDGET_H
#define MIZAR_BUDGET_H

#include "packet.h"

/* Takes `cost` (in 1/256) from the bucket, which gains `rate` a tick up to `burst`; 0: there is not that much in it.
 * Two CPUs may both take the last token: a budget bounds load, it does not count. */
static __always_inline int budget_take(const struct budget_key *key, __u32 cost, __u32 rate, __u32 burst, __u32 now)
{
	struct budget full = {.tokens = burst - cost, .filled = now}, *b = bpf_map_lookup_elem(&budgets, key);
	__u64 tokens;

	if (!b) {
		bpf_map_update_elem(&budgets, key, &full, BPF_NOEXIST);
		return 1;
	}
	tokens = b->tokens + (__u64)elapsed(now, b->filled) * rate;
	if (tokens > burst)
		tokens = burst;
	b->filled = now;
	b->tokens = tokens < cost ? tokens : tokens - cost;
	return tokens >= cost;
}

#endif
