/* The contract between the programs in the kernel, the agent that fills their maps, and the bytes on the wire.
 *
 * Included by every program and by layout.bpf.c, from whose type information node_agent/datapath/layout.py is
 * generated.  A narrow dialect on purpose: fixed widths, explicit padding, no unions, no bit-fields.  __be16 and
 * __be32 are in network byte order, everything else in the host's.
 *
 * Addresses are 16 bytes; an IPv4 address is stored mapped (::ffff:a.b.c.d), so no map has a v4 and a v6 twin.
 */
#ifndef MIZAR_ABI_H
#define MIZAR_ABI_H

#include <linux/types.h>

/* ---- the wire: VXLAN (RFC 7348) with its 24 + 8 reserved bits put to use --------------------------------------- */

enum limit {
	WIRE_PORT = 4789,
	WIRE_VERSION = 0,
	WIRE_BYTES = 50, /* outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14 */
	WIRE_PORTS = 1024, /* distinct outer source ports of a pair of hosts */
	WIRE_PORT_BASE = 49152,
	SET_PLACES = 16,
	UNDERLAY_PREFIXES = 8,
	MAGLEV_SIZE = 251, /* slots of a service's table: a prime, many times the backends of a small service */
	TAG_MASK = 0xfeff, /* bit 8 is the group bit of a MAC address and stays clear */
	EGRESS_PORT_BASE = 61440, /* ports of this host that flows out of VPCs have towards one address and port */
	EGRESS_PORTS = 4096,
	EGRESS_VPC_PORTS = 1024, /* as many of them may one VPC have, in one stretch, */
	EGRESS_ENDPOINT_PORTS = 256, /* and as many of these one endpoint */
};

/* reserved byte 1: version << 6 | type << 3 | flags */
enum wire_type {
	WIRE_DATA = 0,
	WIRE_QUERY = 1,
	WIRE_VERDICT = 2,
	WIRE_NOT_HERE = 3,
};

enum wire_flag {
	WIRE_STALE = 0x01,
	WIRE_REPLY = 0x02,
	WIRE_NATED = 0x04,
};

/* reserved byte 2: ask-only, passed, scope << 4, action */
enum wire_bit {
	WIRE_ACTION_MASK = 0x0f,
	WIRE_SCOPE_MASK = 0x30,
	WIRE_PASSED = 0x40,
	WIRE_ASK_ONLY = 0x80,
};

enum wire_try {
	WIRE_TRY_MASK = 0x07,
};

/* reserved byte 3: hop << 4 | try << 1 | spare;  byte 7: life << 5 | spare */

enum action {
	ACTION_NONE = 0,
	ACTION_ALLOW = 1,
	ACTION_DENY = 2,
	ACTION_UNKNOWN = 3,	/* no such destination in this VPC */
	ACTION_NOT_SERVING = 4, /* ask another bouncer */
	ACTION_RETRY = 5,	/* the source is not known here yet: ask another */
	ACTION_BUSY = 6,
	ACTION_HERE = 7,
	ACTION_KEEP = 8, /* reserved: to a question about a backend that stays. Today's answer is ALLOW: it names the host too */
	ACTION_GONE = 9,
	ACTION_EGRESS = 10,
};

enum scope {
	SCOPE_EXACT = 0,
};

/* ---- why a packet was dropped; counted per VPC ------------------------------------------------------------------ */

enum drop_reason {
	DROP_NONE = 0,
	DROP_MALFORMED,		   /* shorter than its headers say, or headers that contradict each other */
	DROP_UNSUPPORTED_PROTOCOL, /* neither IPv4 nor ARP, or with a VLAN tag */
	DROP_MULTICAST,		   /* broadcast and multicast */
	DROP_NO_ENDPOINT,	   /* a packet from a device that no endpoint row names */
	DROP_SOURCE_ADDRESS,	   /* an endpoint sent with another's address */
	DROP_SOURCE_MAC,	   /* an endpoint sent with another's MAC address */
	DROP_SOURCE_ARP,	   /* ARP that claims another's address */
	DROP_TTL,
	DROP_FRAGMENT_UNKNOWN,	   /* a later fragment came before its first */
	DROP_ICMP_ERROR_NO_FLOW,   /* an ICMP error about a flow that is not known here */
	DROP_NO_VPC,		   /* no row for this VNI on this host; counted under VNI 0 */
	DROP_NO_BOUNCER,	   /* nobody to ask: no row for the subnet, or no member active */
	DROP_NO_ANSWER,		   /* every bouncer was asked and none could answer */
	DROP_HOP_LIMIT,
	DROP_PENDING_BUDGET,	   /* too much sent while the question is open */
	DROP_QUERY_BUDGET,	   /* the endpoint asks more questions, or sends more ICMP errors, a second than it may */
	DROP_UNKNOWN_DESTINATION,
	DROP_DENIED,
	DROP_NO_BACKEND,	   /* a service without backends */
	DROP_NAT_CLASH,		   /* no free port towards this backend */
	DROP_UNKNOWN_REPLY,	   /* a reply of a backend whose flow is not known here; the client's next packet heals it */
	DROP_UNKNOWN_VERSION,
	DROP_UNKNOWN_TYPE,
	DROP_UNKNOWN_ACTION,
	DROP_UNTRUSTED,		   /* from an address that has no say in this: not of the VPC set, not underlay */
	DROP_ASKER_MISMATCH,	   /* a query that names another asking host than sent it */
	DROP_STRAY_VERDICT,	   /* a verdict or not-here for a source that does not live here */
	DROP_TOO_BIG,		   /* with the outer headers larger than the uplink takes */
	DROP_ENCAPSULATION,	   /* the kernel refused to add or remove the outer headers */
	DROP_OUTER_HEADER,	   /* outer header with options, fragmented, or not VXLAN */
	DROP_CONGESTION_MARK,	   /* outer CE on a packet whose sender does not do ECN (RFC 6040) */
	DROP_NO_CONFIG,
	DROP_EGRESS_FORBIDDEN,	   /* to an address outside of every VPC that is not listed, or with IP options */
	DROP_EGRESS_FRAGMENT,	   /* a fragment from or to such an address */
	DROP_COUNT,
};

enum counter {
	COUNTER_QUERIES_SENT = 0,
	COUNTER_QUERIES_ANSWERED_XDP,
	COUNTER_QUERIES_ANSWERED_TC,
	COUNTER_QUERIES_ANSWERED_LOCAL, /* asker and bouncer are one host */
	COUNTER_QUERIES_PASSED,
	COUNTER_VERDICTS_APPLIED,
	COUNTER_ENTRIES_ASKED,
	COUNTER_ENTRIES_LEARNED,
	COUNTER_DATA_SENT,
	COUNTER_DATA_RECEIVED,
	COUNTER_DELIVERED,
	COUNTER_NOT_HERE_SENT,
	COUNTER_NOT_HERE_RECEIVED,
	COUNTER_GATEWAY_REPLIES,
	COUNTER_NAT_INSTALLED,
	COUNTER_NAT_HEALED,
	COUNTER_REVALIDATIONS,
	COUNTER_REVALIDATIONS_UNANSWERED,
	COUNTER_QUERIES_REFUSED_BUSY,
	COUNTER_BOUNCERS_SKIPPED,
	COUNTER_BOUNCERS_PROBED,
	COUNTER_BOUNCERS_BACK,
	COUNTER_EGRESS_SENT,
	COUNTER_EGRESS_RECEIVED,
	COUNTER_COUNT,
};

/* ---- config: one record a host --------------------------------------------------------------------------------- */

struct prefix {
	__be32 address;
	__be32 mask;
};

enum config_flag {
	CONFIG_XDP_REDIRECT = 1, /* native XDP on veth: send back by redirect, XDP_TX would need a program at the peer */
};

/* Times are in ticks of bpf_jiffies64. */
struct config {
	__be32 self;   /* underlay address */
	__u32 uplink;  /* ifindex */
	__u32 mtu;     /* of the uplink, bytes */
	__u32 flags;
	__u32 hop_limit;
	__u32 fresh;
	__u32 idle_tcp;
	__u32 idle_closed;
	__u32 idle_udp;
	__u32 idle_icmp;
	__u32 pending;
	__u32 negative;
	__u32 pending_packets;
	__u32 pending_bytes;
	__u32 fragment;
	__u32 reask;	    /* an unanswered revalidation is repeated after this */
	__u32 renew;	    /* a SYN on a service's entry that was idle for longer than this asks anew */
	__u32 skip;	    /* a bouncer that does not answer is probed after this */
	__u32 busy;	    /* a busy bouncer is left alone for this */
	__u32 dead_queries; /* so many unanswered queries, the first older than `pending`: the bouncer is skipped */
	__u32 query_burst;  /* queries an endpoint may send at once, and a second */
	__u32 query_rate;   /* queries of an endpoint a tick, in 1/256 */
	__u32 busy_rate;    /* KiB of queries a tick that a bouncer takes of one host and VPC, in 1/256; 0: any */
	__u32 busy_burst;   /* KiB at once */
	__be32 link;	    /* the uplink's own link: hosts there are neighbours, which takes no routing */
	__be32 link_mask;   /* 0: none */
	__u32 outlet;	    /* ifindex of the device behind which this host's own stack is, for egress; 0: none */
	__be32 outlet_address; /* what endpoints have as their address there */
	struct prefix underlay[UNDERLAY_PREFIXES];
};

/* ---- rows the agent writes ------------------------------------------------------------------------------------- */

struct addr {
	__be32 w[4];
};

/* vpcs: the VPC set, on every host with an endpoint of the VPC and on every member.
 * `ask`: places that may be asked; `accept`: places whose word counts (a joining or leaving member has only this). */
struct vpc_key {
	__u32 vni;
};

struct vpc_row {
	__u32 slot; /* flow table in `flows`; 0: none on this host */
	__u16 ask;
	__u16 accept;
	__be32 members[SET_PLACES];
};

/* subnets: who bounces a subnet, as a mask of places; on hosts with an endpoint of it and on every member.
 * `subnet` is the subnet's network address: it names the subnet within its VPC. */
struct subnet_key {
	__u32 vni;
	__be32 subnet;
};

struct subnet_row {
	__u16 bouncers;
	__u16 pad;
	__be32 mask; /* of its prefix: a destination in the same subnet is answered in one leg */
};

/* routes: which subnet an address belongs to; members only. Never read on the fast path. */
struct route_key {
	__u32 prefixlen; /* bits after this field: 32 for the VNI, 96 for the mapping, then the prefix's own */
	__be32 vni;
	struct addr addr;
};

struct route_row {
	__be32 subnet;
};

/* serving: this host knows all of the subnet's endpoints (subnet 0: all of the VPC's subnets). Written last. */
struct serving_row {
	__u32 stale; /* 1: the list behind it is older than 60 s */
};

/* endpoints: bouncers only. */
struct endpoint_key {
	__u32 vni;
	struct addr addr;
};

struct endpoint_row {
	__be32 host;
	__be32 subnet;
	__be16 tag;
	__be16 identity;
	__be32 next; /* the host it is moving to: it too speaks for the endpoint; else 0 */
};

/* locals: endpoints that live on this host. ifindex 0: it moved to `moved_to`. */
struct local_row {
	__u32 ifindex; /* host side of its veth */
	__u32 slot;
	__be32 subnet;
	__be32 moved_to;
	__be32 gateway;
	__u8 mac[6];
	__be16 tag;
	__u8 queued; /* its veth has a queue, which what is for it passes */
	__u8 pad[3];
};

/* ports: the same, found by the device a packet came from. */
struct port_key {
	__u32 ifindex;
};

struct port_row {
	__u32 vni;
	__u32 slot;
	struct addr addr;
	__be32 subnet;
	__be32 gateway;
	__u8 mac[6];
	__be16 tag;
};

/* ---- state the programs write ---------------------------------------------------------------------------------- */

/* flows: outer array by slot, inner LRU by flow. ICMP echo uses its id as both ports. */
struct flow_key {
	__u32 vni;
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

enum flow_flag {
	FLOW_ASKED = 0x01,   /* from a verdict */
	FLOW_LEARNED = 0x02, /* from an arrival: the peer began the flow */
	FLOW_NATED = 0x04,
	FLOW_CLOSING = 0x08, /* a FIN or RST was seen */
	FLOW_STALE = 0x10,
	FLOW_REPLY = 0x20, /* of a backend, asked about in mid-stream: only a host that knows the flow may deliver */
};

struct flow_entry {
	__be32 host;	 /* where the peer lives */
	__be16 peer_tag; /* tag the peer must still have */
	__be16 owner_tag; /* tag our endpoint had when this was installed */
	__u32 confirmed; /* ticks; the fresh timer */
	__u32 seen;	 /* ticks; the idle timer */
	__u32 asked;	 /* ticks of the last revalidation, 0: none under way */
	__u8 flags;
	__u8 unanswered;
	__u8 scope;
	__u8 life;
	__be32 vip; /* NATED: the service that the client addressed, carried by every packet of the flow */
	__be16 vip_port;
	__u16 pad;
};

/* nats: outer array by slot, inner LRU by flow, on the client's host. A pair of entries a flow: FORWARD is found by what
 * the client sends, REVERSE by what the backend's packets look like when they arrive. */
enum nat_kind {
	NAT_FORWARD = 1,
	NAT_REVERSE = 2,
	NAT_HAIRPIN = 4, /* the backend is the client itself: it sees its gateway as the peer */
	NAT_EGRESS = 8,	 /* FORWARD to an address outside of every VPC; its way back is a row of `egress` */
};

struct nat_entry {
	struct flow_entry flow;
	__be32 src; /* what addresses and ports become */
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u32 kind;
};

/* services, maglev, backends: on every member of the VPC set. Four bytes name a VIP or backend: the VPC has the rest. */
enum service_flag {
	SERVICE_AFFINITY = 1, /* by client address */
};

struct service_key {
	__u32 vni;
	__be32 vip;
	__be16 port; /* 0 with ICMP: the VIP answers ping */
	__u8 proto;
	__u8 pad;
};

struct service_row {
	__u32 size; /* slots in `maglev`; 0: no backend */
	__u32 flags;
};

struct maglev_key {
	__u32 vni;
	__be32 vip;
	__be16 port;
	__u8 proto;
	__u8 pad;
	__u32 slot;
};

enum backend_flag {
	BACKEND_EGRESS = 1, /* its address is outside of every VPC */
};

struct maglev_row {
	__be32 addr;
	__be16 port;
	__u16 flags; /* backend_flag */
};

/* vip 0: some service of the VPC has this backend. A row exists while the backend may keep its connections. */
struct backend_key {
	__u32 vni;
	__be32 addr;
	__be32 vip;
	__be16 port;
	__be16 vip_port;
	__u8 proto;
	__u8 pad[3];
};

struct backend_row {
	__u32 flags; /* backend_flag */
};

/* listed: addresses outside of every VPC that endpoints of this host may reach by way of a service; no others. */
struct listed_key {
	__be32 addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct listed_row {
	__u32 local; /* 1: an address of this host itself */
};

/* asked: open questions and cached refusals, apart from the flows so that a scan cannot evict live ones. */
enum asked_state {
	ASKED_PENDING = 1,
	ASKED_NEGATIVE = 2,
	ASKED_DENIED = 3,
};

struct asked_entry {
	__u32 since; /* ticks of the present try */
	__u32 bytes;
	__u32 packets;
	__u8 state;
	__u8 attempt;
	__be16 owner_tag;
};

/* fragments: ports that the first fragment of a datagram carried. */
struct fragment_key {
	__u32 vni;
	struct addr src;
	struct addr dst;
	__be16 id;
	__u8 proto;
	__u8 pad;
};

struct fragment_row {
	__be16 sport;
	__be16 dport;
	__u32 seen;
};

/* bouncers: what an asking host has seen of each one. A dead one is asked nothing but probes. */
struct bouncer_key {
	__be32 host;
};

struct bouncer_state {
	__u32 unanswered; /* one-leg queries since its last answer */
	__u32 first;	  /* ticks of the first of them */
	__u32 until;	  /* ticks: not asked before; of a dead one, not probed before */
	__u32 dead;
};

/* budgets: token buckets; of a port's queries and ICMP errors (host 0, id its ifindex), of its new rows in `asked` (host
 * BUDGET_ASKED, id its ifindex), and of an asking host's queries (id the VNI). */
enum budget_owner {
	BUDGET_ASKED = 0x7fffffff, /* no host's address in any byte order */
	BUDGET_ASKED_SHARE = 16,   /* of the rate and burst of queries */
};

struct budget_key {
	__be32 host;
	__u32 id;
};

struct budget {
	__u32 tokens; /* in 1/256 */
	__u32 filled; /* ticks */
};

/* egress: the way back from addresses outside of every VPC, where nobody knows of VPCs: which flow has this port of this
 * host towards that peer. Unlike an entry, a row is not evicted: the port is the flow's while it lives. */
enum egress_flag {
	EGRESS_ANSWERED = 1, /* the peer has spoken */
	EGRESS_CLOSING = 2,  /* a FIN or RST was seen */
};

struct egress_key {
	__be32 peer;
	__be32 own;
	__be16 peer_port;
	__be16 own_port;
	__u8 proto;
	__u8 pad[3];
};

struct egress_row {
	__u32 vni;
	__be32 endpoint;
	__be32 vip; /* what the endpoint addressed */
	__be16 port; /* the endpoint's own */
	__be16 vip_port;
	__u32 seen; /* ticks; who takes the port of a row that ended writes this first, by compare and exchange */
	__be16 tag; /* the endpoint's */
	__u8 flags;
	__u8 pad;
};

struct drop_key {
	__u32 vni;
	__u32 reason;
};

_Static_assert(sizeof(struct flow_key) == 44, "flow_key");
_Static_assert(sizeof(struct flow_entry) == 32, "flow_entry");
_Static_assert(sizeof(struct nat_entry) == 48, "nat_entry");
_Static_assert(sizeof(struct asked_entry) == 16, "asked_entry");
_Static_assert(sizeof(struct endpoint_row) == 16, "endpoint_row: cache misses are a bouncer's cost");
_Static_assert(sizeof(struct vpc_row) == 72, "vpc_row");
_Static_assert(sizeof(struct port_row) == 40, "port_row");
_Static_assert(sizeof(struct local_row) == 32, "local_row");
_Static_assert(sizeof(struct listed_key) == 8, "listed_key");
_Static_assert(sizeof(struct egress_key) == 16, "egress_key");
_Static_assert(sizeof(struct egress_row) == 24, "egress_row");

#endif
