/* Step verdict: the answer is back at the host that asked. Installs the entry and sends this very packet on. */
#ifndef MIZAR_VERDICT_H
#define MIZAR_VERDICT_H

#include "deliver.h"
#include "liveness.h"

/* A pair for the packet's flow, to this backend, and the packet on its way. */
static __always_inline int verdict_pair(const struct config *c, struct packet *p, __be32 backend, __be16 port,
					__be32 gateway)
{
	struct nat_pair *pair = nat_pair_get();
	__u32 reason;

	if (!pair)
		return STEP_DROP;
	pair->key = p->key;
	nat_pair_make(pair, backend, port, gateway, p->target, p->peer_tag, p->own_tag, p->now);
	reason = nat_install(c, p, pair, NAT_TRIES);
	return reason ? drop(p, reason) : forward_natted(p, &pair->forward);
}

/* The flow has no entry yet. Where its replies would be taken for those of a service's flow (the client has one from the same
 * port, and this is its backend), it too gets a pair: one that changes the port alone. */
static __always_inline int verdict_install(const struct config *c, struct packet *p, __be32 gateway)
{
	struct flow_key back = reversed(&p->key);
	struct nat_entry *n = nat_live(c, p, &p->key, p->own_tag);
	struct flow_entry new = {};
	int only = p->bits & WIRE_ASK_ONLY;

	if (n && nat_beside(&p->key, n)) {
		if (only)
			flow_confirm(&n->flow, p, p->target, p->peer_tag);
		return only ? STEP_END : forward_natted(p, n);
	}
	n = nat_live(c, p, &back, p->own_tag);
	if (n && n->kind & NAT_REVERSE)
		return only ? STEP_END : verdict_pair(c, p, p->key.dst.w[3], p->key.dport, gateway);
	flow_entry_make(p, p->target, p->peer_tag, p->own_tag, FLOW_ASKED | (p->flags & WIRE_REPLY && !only ? FLOW_REPLY : 0),
			&new);
	if (!flow_insert(p, &p->key, &new))
		count(COUNTER_ENTRIES_ASKED);
	return only ? STEP_END : forward_by(p, &new);
}

static __always_inline int verdict_allow(const struct config *c, struct packet *p, __be32 gateway)
{
	struct flow_entry *e = flow_live(c, p, &p->key, p->own_tag);

	bpf_map_delete_elem(&asked, &p->key);
	if (!e)
		return verdict_install(c, p, gateway);
	if (!(p->bits & WIRE_ASK_ONLY))
		return forward_by(p, e);
	flow_confirm(e, p, p->target, p->peer_tag);
	return STEP_END;
}

/* The destination is a service, and this is the backend that was chosen, or that may stay. */
static __always_inline int verdict_backend(const struct config *c, struct packet *p, __be32 gateway)
{
	struct nat_entry *n = nat_live(c, p, &p->key, p->own_tag);

	bpf_map_delete_elem(&asked, &p->key);
	if (n && p->bits & WIRE_ASK_ONLY && n->dst == p->nat_addr && n->dport == p->nat_port)
		flow_confirm(&n->flow, p, p->target, p->peer_tag);
	if (p->bits & WIRE_ASK_ONLY)
		return STEP_END;
	if (n && n->kind & NAT_FORWARD && egress_usable(c, p, n))
		return forward_natted(p, n);
	return verdict_pair(c, p, p->nat_addr, p->nat_port, gateway);
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
	hand_to(p, local);
	drop(p, DROP_NO_BACKEND);
	return STEP_REFUSE;
}

static __always_inline int verdict_echo(struct packet *p, const struct local_row *local)
{
	bpf_map_delete_elem(&asked, &p->key);
	if (p->bits & WIRE_ASK_ONLY)
		return STEP_END;
	hand_to(p, local);
	return STEP_ECHO;
}

static __always_inline int verdict_refuse(const struct config *c, struct packet *p, __u8 state, __u32 reason)
{
	struct nat_entry *n;
	struct asked_entry a = {.since = p->now, .state = state, .owner_tag = p->own_tag};

	bpf_map_update_elem(&asked, &p->key, &a, BPF_EXIST); /* in its question's place, if that was noted */
	if (!(p->bits & WIRE_ASK_ONLY))
		return drop(p, reason);
	flow_remove(p, &p->key); /* what was allowed is so no more */
	n = nat_live(c, p, &p->key, p->own_tag);
	if (n && nat_beside(&p->key, n))
		nat_remove(p, &p->key, n);
	return STEP_END;
}

/* How many bouncers of the source's subnet may be asked. */
static __always_inline __u32 verdict_bouncers(const struct packet *p, const struct vpc_row *vpc)
{
	struct subnet_key key = {.vni = p->key.vni, .subnet = p->subnet};
	struct subnet_row *subnet = bpf_map_lookup_elem(&subnets, &key);

	return places(subnet ? subnet->bouncers & vpc->ask : 0);
}

/* This bouncer could not say: the same packet asks another one at once, until each pair of bouncers had its turn or eight
 * questions were asked, which is all that `try` can tell apart. */
static __always_inline int verdict_elsewhere(struct packet *p, const struct vpc_row *vpc)
{
	__u32 n = verdict_bouncers(p, vpc);

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

	/* The list behind the answer may be old: one other is asked, if there is one, and what comes then counts. */
	if (p->flags & WIRE_STALE && !p->hop && (p->action == ACTION_ALLOW || p->action == ACTION_UNKNOWN) &&
	    verdict_bouncers(p, vpc) > 1)
		return verdict_elsewhere(p, vpc);
	if (p->action == ACTION_ALLOW && p->target != p->self && !underlay_host(c, p->target))
		return drop(p, DROP_UNTRUSTED);
	switch (p->action) {
	case ACTION_ALLOW:
		return p->flags & WIRE_NATED ? verdict_backend(c, p, local->gateway) : verdict_allow(c, p, local->gateway);
	case ACTION_GONE:
		return verdict_gone(c, p, local);
	case ACTION_EGRESS:
		return STEP_LEAVE;
	case ACTION_HERE:
		return verdict_echo(p, local);
	case ACTION_DENY:
		return verdict_refuse(c, p, ASKED_DENIED, DROP_DENIED);
	case ACTION_UNKNOWN:
		return verdict_refuse(c, p, ASKED_NEGATIVE, DROP_UNKNOWN_DESTINATION);
	case ACTION_NOT_SERVING:
	case ACTION_RETRY:
	case ACTION_BUSY:
		return verdict_elsewhere(p, vpc);
	default:
		return drop(p, DROP_UNKNOWN_ACTION);
	}
}

#endif
