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
	TAG_MASK = 0xfeff, /* bit 8 is the group bit of a MAC address and stays clear */
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
	ACTION_KEEP = 8,
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
	DROP_UNSUPPORTED_PROTOCOL, /* neither IPv4 nor ARP */
	DROP_MULTICAST,		   /* broadcast and multicast */
	DROP_NO_ENDPOINT,	   /* a packet from a device that no endpoint row names */
	DROP_SOURCE_ADDRESS,	   /* an endpoint sent with another's address */
	DROP_SOURCE_MAC,	   /* an endpoint sent with another's MAC address */
	DROP_SOURCE_ARP,	   /* ARP that claims another's address */
	DROP_TTL,
	DROP_FRAGMENT_UNKNOWN,	   /* a later fragment came before its first */
	DROP_ICMP_ERROR_NO_FLOW,   /* an ICMP error about a flow that is not known here */
	DROP_NO_VPC,		   /* no row for this VNI on this host */
	DROP_NO_BOUNCER,	   /* nobody to ask: no row for the subnet, or no member active */
	DROP_NO_ANSWER,		   /* every bouncer was asked and none could answer */
	DROP_HOP_LIMIT,
	DROP_PENDING_BUDGET,	   /* too much sent while the question is open */
	DROP_UNKNOWN_DESTINATION,
	DROP_DENIED,
	DROP_UNKNOWN_VERSION,
	DROP_UNKNOWN_TYPE,
	DROP_UNKNOWN_ACTION,
	DROP_UNTRUSTED,		   /* from an address that has no say in this: not of the VPC set, not underlay */
	DROP_ASKER_MISMATCH,	   /* a query that names another asking host than sent it */
	DROP_STRAY_VERDICT,	   /* a verdict or not-here for a source that does not live here */
	DROP_ENCAPSULATION,	   /* the kernel refused to add or remove the outer headers */
	DROP_OUTER_HEADER,	   /* outer header with options, fragmented, or not VXLAN */
	DROP_CONGESTION_MARK,	   /* outer CE on a packet whose sender does not do ECN (RFC 6040) */
	DROP_NO_CONFIG,
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
	__u32 flags;
};

/* locals: endpoints that live on this host. ifindex 0: it moved to `moved_to`. */
struct local_row {
	__u32 ifindex; /* host side of its veth */
	__u32 slot;
	__be32 subnet;
	__be32 moved_to;
	__u8 mac[6];
	__be16 tag;
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

struct drop_key {
	__u32 vni;
	__u32 reason;
};

_Static_assert(sizeof(struct flow_key) == 44, "flow_key");
_Static_assert(sizeof(struct flow_entry) == 24, "flow_entry");
_Static_assert(sizeof(struct asked_entry) == 16, "asked_entry");
_Static_assert(sizeof(struct endpoint_row) == 16, "endpoint_row: cache misses are a bouncer's cost");
_Static_assert(sizeof(struct vpc_row) == 72, "vpc_row");
_Static_assert(sizeof(struct port_row) == 40, "port_row");
_Static_assert(sizeof(struct local_row) == 24, "local_row");

#endif
