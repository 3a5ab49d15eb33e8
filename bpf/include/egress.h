/* Step egress: a packet of a local endpoint, checked and parsed. One lookup is the fast path. */
#ifndef MIZAR_EGRESS_H
#define MIZAR_EGRESS_H

#include "budget.h"
#include "deliver.h"

/* May the endpoint have another row in `asked`, which is everybody's? Who scans asks on, but is not remembered: others' open
 * questions and refusals are. */
static __always_inline int may_note(const struct config *c, const struct packet *p)
{
	struct budget_key key = {.host = BUDGET_ASKED, .id = p->ifindex};

	return budget_take(&key, 256, c->query_rate / BUDGET_ASKED_SHARE, (c->query_burst << 8) / BUDGET_ASKED_SHARE, p->now);
}

/* Notes the question, or that it is still open. 0 to ask, else the reason not to. */
static __always_inline __u32 note_question(const struct config *c, struct packet *p)
{
	struct asked_entry *a = bpf_map_lookup_elem(&asked, &p->key);
	struct asked_entry first = {
		.since = p->now, .bytes = p->length, .packets = 1, .state = ASKED_PENDING, .owner_tag = p->own_tag};

	p->attempt = 0;
	if (!a || a->owner_tag != p->own_tag || (a->state != ASKED_PENDING && elapsed(p->now, a->since) > c->negative)) {
		if (a || may_note(c, p))
			bpf_map_update_elem(&asked, &p->key, &first, BPF_ANY);
		return 0;
	}
	if (a->state == ASKED_DENIED)
		return DROP_DENIED;
	if (a->state == ASKED_NEGATIVE)
		return DROP_UNKNOWN_DESTINATION;
	if (elapsed(p->now, a->since) > c->pending) {
		a->attempt++;
		a->since = p->now;
		a->packets = 0;
		a->bytes = 0;
	}
	p->attempt = a->attempt & 7;
	if (a->packets >= c->pending_packets || a->bytes >= c->pending_bytes)
		return DROP_PENDING_BUDGET;
	a->packets++;
	a->bytes += p->length;
	return 0;
}

/* What a backend answers to the gateway, when the gateway stands for itself as the client. */
static __always_inline int hairpin_back(struct packet *p, struct nat_entry *n)
{
	struct local_row *local;

	flow_touch(&n->flow, p);
	nat_rewrite(p, n);
	local = local_find(p->key.vni, &p->key.dst);
	if (!local || !local->ifindex)
		return drop(p, DROP_NO_ENDPOINT);
	hand_to(p, local);
	count(COUNTER_DELIVERED);
	return STEP_HAND;
}

__attribute__((noinline)) int step_egress(struct packet *p)
{
	struct config *c = config_get();
	struct budget_key budget = {};
	struct flow_entry *e;
	struct nat_entry *n;
	__u32 reason;

	if (!p || !c)
		return STEP_DROP;
	budget.id = p->ifindex;
	p->hop = 0;
	if (p->icmp_error && !budget_take(&budget, 256, c->query_rate, c->query_burst << 8, p->now))
		return drop(p, DROP_QUERY_BUDGET);
	e = flow_live(c, p, &p->key, p->own_tag);
	if (e) {
		flow_touch(e, p);
		p->revalidate = !p->icmp_error && flow_due(c, e, p);
		return forward_by(p, e);
	}
	n = nat_live(c, p, &p->key, p->own_tag);
	if (n && !egress_usable(c, p, n)) {
		nat_remove(p, &p->key, n);
		n = NULL;
	}
	if (n && n->kind == (NAT_REVERSE | NAT_HAIRPIN))
		return hairpin_back(p, n);
	if (n && n->kind & NAT_FORWARD) {
		/* A SYN on an idle entry is another connection on the same ports: it gets a choice of its own. */
		if (!(p->tcp_flags & TCP_SYN && elapsed(p->now, n->flow.seen) > c->renew)) {
			flow_touch(&n->flow, p);
			p->revalidate = !p->icmp_error && flow_due(c, &n->flow, p);
			return forward_natted(p, n);
		}
		nat_remove(p, &p->key, n);
	}
	if (p->icmp_error)
		return drop(p, DROP_ICMP_ERROR_NO_FLOW);
	if (!budget_take(&budget, 256, c->query_rate, c->query_burst << 8, p->now))
		return drop(p, DROP_QUERY_BUDGET);
	reason = note_question(c, p);
	return reason ? drop(p, reason) : STEP_ASK;
}

#endif
