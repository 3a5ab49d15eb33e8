"""The row every program reads first."""

import dataclasses

import pytest

from node_agent.datapath.layout import Config, ConfigFlag, Prefix
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid
from node_agent.rows.config import KEY, config_rows
from node_agent.rows.image import number

CONFIG = AgentConfig(
    host="h",
    stack_id="s",
    address="198.18.0.11",
    uplink="uplink0",
    underlay_prefixes=("198.18.0.0/24",),
    store="sqlite:/x",
    pins="/p",
    socket="/s",
    bpf_objects="/b",
)


def ticks(seconds: float) -> int:
    return max(1, round(seconds * 250))


def test_times_are_ticks_and_addresses_network_order() -> None:
    image = config_rows(CONFIG, ticks, 5, 1500, redirect=True)
    row = Config.unpack(image["config"][KEY])
    assert (row.self, row.uplink, row.flags) == (number("198.18.0.11"), 5, ConfigFlag.XDP_REDIRECT)
    assert (row.fresh, row.idle_tcp, row.pending, row.hop_limit) == (7500, 900000, 12, 8)
    assert row.underlay[0] == Prefix(address=number("198.18.0.0"), mask=0xFFFFFF00)
    assert row.underlay[1] == Prefix()
    assert image["config"][KEY][:4] == bytes([198, 18, 0, 11])


def test_hosts_of_the_uplinks_own_link_are_neighbours() -> None:
    row = Config.unpack(config_rows(CONFIG, ticks, 5, 1500, redirect=False, link="198.18.0.0/24")["config"][KEY])
    assert (row.link, row.link_mask) == (number("198.18.0.0"), 0xFFFFFF00)
    row = Config.unpack(config_rows(CONFIG, ticks, 5, 1500, redirect=False)["config"][KEY])
    assert row.link_mask == 0


def test_too_many_prefixes_are_refused() -> None:
    many = dataclasses.replace(CONFIG, underlay_prefixes=tuple(f"198.18.{i}.0/24" for i in range(9)))
    with pytest.raises(Invalid, match="9 of them"):
        config_rows(many, ticks, 5, 1500, redirect=False)
