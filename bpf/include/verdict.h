/* Step verdict: the answer is back at the host that asked. Installs the entry and sends this very packet on. */
#ifndef MIZAR_VERDICT_H
#define MIZAR_VERDICT_H

#include "deliver.h"

static __always_inline int verdict_allow(const struct config *c, struct packet *p)
{
	struct flow_entry *e = flow_live(c, p, &p->key, p->own_tag);

	bpf_map_delete_elem(&asked, &p->key);
	if (!e) {
		if (!flow_install(p, &p->key, p->target, p->peer_tag, p->own_tag, FLOW_ASKED))
			count(COUNTER_ENTRIES_ASKED);
	} else if (p->bits & WIRE_ASK_ONLY && e->host == p->target && e->peer_tag == p->peer_tag) {
		e->confirmed = p->now;
		e->asked = 0;
	}
	if (p->bits & WIRE_ASK_ONLY)
		return STEP_END;
	return e ? forward(p, e->host, e->peer_tag) : forward(p, p->target, p->peer_tag);
}

static __always_inline int verdict_refuse(struct packet *p, __u8 state, __u32 reason)
{
	struct asked_entry a = {.since = p->now, .state = state, .owner_tag = p->own_tag};

	bpf_map_update_elem(&asked, &p->key, &a, BPF_ANY);
	return p->bits & WIRE_ASK_ONLY ? STEP_END : drop(p, reason);
}

/* This bouncer could not say: the same packet asks another one at once, until each pair of bouncers had its turn. */
static __always_inline int verdict_elsewhere(struct packet *p, const struct vpc_row *vpc)
{
	struct subnet_key key = {.vni = p->key.vni, .subnet = p->subnet};
	struct subnet_row *subnet = bpf_map_lookup_elem(&subnets, &key);
	__u32 n = places(subnet ? subnet->bouncers & vpc->ask : 0);

	p->hop++;
	p->attempt = (p->attempt + 1) & 7;
	if (p->hop >= n * n)
		return p->bits & WIRE_ASK_ONLY ? STEP_END : drop(p, DROP_NO_ANSWER);
	return STEP_ASK;
}

__attribute__((noinline)) int step_verdict(struct packet *p)
{
	struct config *c = config_get();
	struct local_row *local;
	struct vpc_row *vpc;

	if (!p || !c)
		return STEP_DROP;
	vpc = vpc_find(p->key.vni);
	if (!vpc)
		return drop(p, DROP_NO_VPC);
	if (p->from != p->self && !vpc_accepts(vpc, p->from))
		return drop(p, DROP_UNTRUSTED);
	local = local_find(p->key.vni, &p->key.src);
	if (!local || !local->ifindex)
		return drop(p, DROP_STRAY_VERDICT);
	p->slot = local->slot;
	p->own_tag = local->tag;
	p->subnet = local->subnet;
	count(COUNTER_VERDICTS_APPLIED);

	switch (p->action) {
	case ACTION_ALLOW:
		return verdict_allow(c, p);
	case ACTION_DENY:
		return verdict_refuse(p, ASKED_DENIED, DROP_DENIED);
	case ACTION_UNKNOWN:
		return verdict_refuse(p, ASKED_NEGATIVE, DROP_UNKNOWN_DESTINATION);
	case ACTION_NOT_SERVING:
	case ACTION_RETRY:
	case ACTION_BUSY:
		return verdict_elsewhere(p, vpc);
	default:
		return drop(p, DROP_UNKNOWN_ACTION);
	}
}

#endif
