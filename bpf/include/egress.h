/* Step egress: a packet of a local endpoint, checked and parsed. One lookup is the fast path. */
#ifndef MIZAR_EGRESS_H
#define MIZAR_EGRESS_H

#include "deliver.h"

/* Notes the question, or that it is still open. 0 to ask, else the reason not to. */
static __always_inline __u32 note_question(const struct config *c, struct packet *p)
{
	struct asked_entry *a = bpf_map_lookup_elem(&asked, &p->key);
	struct asked_entry first = {
		.since = p->now, .bytes = p->length, .packets = 1, .state = ASKED_PENDING, .owner_tag = p->own_tag};

	p->attempt = 0;
	if (!a || a->owner_tag != p->own_tag || (a->state != ASKED_PENDING && p->now - a->since > c->negative)) {
		bpf_map_update_elem(&asked, &p->key, &first, BPF_ANY);
		return 0;
	}
	if (a->state == ASKED_DENIED)
		return DROP_DENIED;
	if (a->state == ASKED_NEGATIVE)
		return DROP_UNKNOWN_DESTINATION;
	if (p->now - a->since > c->pending) {
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

__attribute__((noinline)) int step_egress(struct packet *p)
{
	struct config *c = config_get();
	struct flow_entry *e;
	__u32 reason;

	if (!p || !c)
		return STEP_DROP;
	p->hop = 0;
	e = flow_live(c, p, &p->key, p->own_tag);
	if (e) {
		flow_touch(e, p);
		return forward(p, e->host, e->peer_tag);
	}
	if (p->icmp_error)
		return drop(p, DROP_ICMP_ERROR_NO_FLOW);
	reason = note_question(c, p);
	return reason ? drop(p, reason) : STEP_ASK;
}

#endif
