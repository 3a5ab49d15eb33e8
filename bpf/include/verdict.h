/* Step verdict: the answer is back at the host that asked. Installs the entry and sends this very packet on. */
#ifndef MIZAR_VERDICT_H
#define MIZAR_VERDICT_H

#include "deliver.h"
#include "liveness.h"

static __always_inline int verdict_allow(const struct config *c, struct packet *p)
{
	struct flow_entry *e = flow_live(c, p, &p->key, p->own_tag), new = {};

	bpf_map_delete_elem(&asked, &p->key);
	if (!e) {
		flow_entry_make(p, p->target, p->peer_tag, p->own_tag,
				FLOW_ASKED | (p->flags & WIRE_REPLY && !(p->bits & WIRE_ASK_ONLY) ? FLOW_REPLY : 0), &new);
		if (!flow_insert(p, &p->key, &new))
			count(COUNTER_ENTRIES_ASKED);
		e = &new;
	} else if (p->bits & WIRE_ASK_ONLY) {
		flow_confirm(e, p, p->target, p->peer_tag);
	}
	return p->bits & WIRE_ASK_ONLY ? STEP_END : forward_by(p, e);
}

/* The destination is a service, and this is the backend that was chosen, or that may stay. */
static __always_inline int verdict_backend(const struct config *c, struct packet *p, __be32 gateway)
{
	struct nat_entry *n = nat_live(c, p, &p->key, p->own_tag);
	struct nat_pair *pair = nat_pair_get();
	__u32 reason;

	bpf_map_delete_elem(&asked, &p->key);
	if (n && p->bits & WIRE_ASK_ONLY && n->dst == p->nat_addr && n->dport == p->nat_port)
		flow_confirm(&n->flow, p, p->target, p->peer_tag);
	if (p->bits & WIRE_ASK_ONLY)
		return STEP_END;
	if (n && n->kind & NAT_FORWARD)
		return forward_natted(p, n);
	if (!pair)
		return STEP_DROP;
	pair->key = p->key;
	nat_pair_make(pair, p->nat_addr, p->nat_port, gateway, p->target, p->peer_tag, p->own_tag, p->now);
	reason = nat_install(c, p, pair);
	return reason ? drop(p, reason) : forward_natted(p, &pair->forward);
}

/* No backend for a new flow, or none any more for this one. */
static __always_inline int verdict_gone(const struct config *c, struct packet *p, const struct local_row *local)
{
	struct nat_entry *n = nat_live(c, p, &p->key, p->own_tag);

	if (n && p->bits & WIRE_ASK_ONLY && n->dst == p->nat_addr && n->dport == p->nat_port)
		nat_remove(p, &p->key, n);
	bpf_map_delete_elem(&asked, &p->key);
	if (p->bits & WIRE_ASK_ONLY)
		return STEP_END;
	p->ifindex = local->ifindex;
	__builtin_memcpy(p->mac, local->mac, sizeof(p->mac));
	drop(p, DROP_NO_BACKEND);
	return STEP_REFUSE;
}

static __always_inline int verdict_echo(struct packet *p, const struct local_row *local)
{
	bpf_map_delete_elem(&asked, &p->key);
	if (p->bits & WIRE_ASK_ONLY)
		return STEP_END;
	p->ifindex = local->ifindex;
	__builtin_memcpy(p->mac, local->mac, sizeof(p->mac));
	return STEP_ECHO;
}

static __always_inline int verdict_refuse(struct packet *p, __u8 state, __u32 reason)
{
	struct asked_entry a = {.since = p->now, .state = state, .owner_tag = p->own_tag};

	bpf_map_update_elem(&asked, &p->key, &a, BPF_ANY);
	if (!(p->bits & WIRE_ASK_ONLY))
		return drop(p, reason);
	flow_remove(p, &p->key); /* what was allowed is so no more */
	return STEP_END;
}

/* This bouncer could not say: the same packet asks another one at once, until each pair of bouncers had its turn or eight
 * questions were asked, which is all that `try` can tell apart. */
static __always_inline int verdict_elsewhere(struct packet *p, const struct vpc_row *vpc)
{
	struct subnet_key key = {.vni = p->key.vni, .subnet = p->subnet};
	struct subnet_row *subnet = bpf_map_lookup_elem(&subnets, &key);
	__u32 n = places(subnet ? subnet->bouncers & vpc->ask : 0);

	p->hop++;
	p->attempt = (p->attempt + 1) & WIRE_TRY_MASK;
	if (p->hop >= n * n || p->hop > WIRE_TRY_MASK)
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
	bouncer_answered(c, p);

	/* The list behind the answer may be old: one other is asked, and what comes then counts. */
	if (p->flags & WIRE_STALE && !p->hop && (p->action == ACTION_ALLOW || p->action == ACTION_UNKNOWN))
		return verdict_elsewhere(p, vpc);
	if (p->action == ACTION_ALLOW && p->target != p->self && !underlay_host(c, p->target))
		return drop(p, DROP_UNTRUSTED);
	switch (p->action) {
	case ACTION_ALLOW:
		return p->flags & WIRE_NATED ? verdict_backend(c, p, local->gateway) : verdict_allow(c, p);
	case ACTION_GONE:
		return verdict_gone(c, p, local);
	case ACTION_HERE:
		return verdict_echo(p, local);
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
