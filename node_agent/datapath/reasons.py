"""Why packets are dropped, in words: one short phrase per drop reason. Pure; used by the CLI and the metrics."""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.datapath.layout import DropReason

REASONS: Mapping[DropReason, str] = {
    DropReason.NONE: "no reason: this is never counted",
    DropReason.MALFORMED: "shorter than its headers say, or headers that contradict each other",
    DropReason.UNSUPPORTED_PROTOCOL: "neither IPv4 nor ARP, or with a VLAN tag",
    DropReason.MULTICAST: "sent to a broadcast or multicast address",
    DropReason.NO_ENDPOINT: "came from a device that no endpoint of this host has",
    DropReason.SOURCE_ADDRESS: "an endpoint sent with another's IP address",
    DropReason.SOURCE_MAC: "an endpoint sent with another's MAC address",
    DropReason.SOURCE_ARP: "an endpoint's ARP claimed another's address",
    DropReason.TTL: "its time to live ended here",
    DropReason.FRAGMENT_UNKNOWN: "a later fragment came before its first one",
    DropReason.ICMP_ERROR_NO_FLOW: "an ICMP error about a flow that is not known here",
    DropReason.NO_VPC: "this host has no row for the VPC",
    DropReason.NO_BOUNCER: "nobody to ask: the subnet has no bouncer that may be asked",
    DropReason.NO_ANSWER: "every bouncer was asked and none could answer",
    DropReason.HOP_LIMIT: "sent round too often",
    DropReason.PENDING_BUDGET: "the flow sent too much while its question is open",
    DropReason.QUERY_BUDGET: "the endpoint asks more questions, or sends more ICMP errors, a second than it may",
    DropReason.UNKNOWN_DESTINATION: "nobody in the VPC has the destination address",
    DropReason.DENIED: "refused by policy",
    DropReason.NO_BACKEND: "the service has no backend",
    DropReason.NAT_CLASH: "no free port towards the service's backend",
    DropReason.UNKNOWN_REPLY: "a backend's reply to a flow that is not known here; the client's next packet heals it",
    DropReason.UNKNOWN_VERSION: "a tunnel message of another version",
    DropReason.UNKNOWN_TYPE: "a tunnel message of an unknown type",
    DropReason.UNKNOWN_ACTION: "a verdict with an unknown action",
    DropReason.UNTRUSTED: "from a host that has no say in this",
    DropReason.ASKER_MISMATCH: "a query that names another asking host than sent it",
    DropReason.STRAY_VERDICT: "an answer for an endpoint that does not live here",
    DropReason.TOO_BIG: "with the tunnel's headers larger than the uplink takes; the sender was told what fits",
    DropReason.ENCAPSULATION: "the kernel refused to add, remove or rewrite headers",
    DropReason.OUTER_HEADER: "an outer header that no host of ours writes",
    DropReason.CONGESTION_MARK: "marked as congested outside, and its sender does not understand that (RFC 6040)",
    DropReason.NO_CONFIG: "the agent has not told the programs who this host is",
    DropReason.EGRESS_FORBIDDEN: "to an address outside of every VPC that is not listed, or with IP options",
    DropReason.EGRESS_FRAGMENT: "a fragment from or to an address outside of every VPC",
}


def phrase(reason: DropReason) -> str:
    """What this reason means; its own name where nobody wrote it down."""
    return REASONS.get(reason, reason.name.lower().replace("_", " "))
