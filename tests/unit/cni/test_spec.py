import dataclasses
import json
from typing import Any

import pytest

from node_agent.cni import spec
from node_agent.cni.protocol import Reply
from node_agent.model.bandwidth import Bandwidth, Rate
from node_agent.model.errors import Invalid

CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "mizar"}
REPLY = Reply(endpoint="7-10.0.0.9", address="10.0.0.9", gateway="10.0.0.1", mac="02:00:00:00:00:09", mtu=1450)


def network(**more: Any) -> spec.Network:
    return spec.network(json.dumps({**CONFIG, **more}))


def result(of: spec.Network) -> Any:
    return json.loads(spec.result(of, REPLY, "eth0", "/run/netns/x", "mz0123"))


def test_a_network_is_read() -> None:
    found = network(vpc="blue", subnet="front", socket="/s", other={"a": 1})
    assert found == spec.Network(name="net", version="1.1.0", vpc="blue", subnet="front")


def test_every_mistake_of_a_network_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        network(name="", vpc=1, prevResult=[], dns="x", **{"cni.dev/valid-attachments": [{"containerID": "c"}, 5]})
    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [
        "vpc", "name", "prevResult", "dns", "cni.dev/valid-attachments", "cni.dev/valid-attachments",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_what_is_no_object_is_no_network(text: str) -> None:
    with pytest.raises(Invalid):
        spec.network(text)


@pytest.mark.parametrize("version", ["0.4.0", "2.0.0", "", None, 1])
def test_other_versions_are_refused(version: Any) -> None:
    with pytest.raises(spec.OtherVersion):
        network(cniVersion=version)


def test_valid_attachments_are_pairs_and_none_is_not_the_same_as_empty() -> None:
    said = [{"containerID": "c", "ifname": "eth0"}, {"containerID": "d", "ifname": "eth1"}]
    assert network(**{"cni.dev/valid-attachments": said}).valid == {("c", "eth0"), ("d", "eth1")}
    assert network(**{"cni.dev/valid-attachments": []}).valid == frozenset()
    assert network().valid is None


def test_a_pods_annotations_come_from_runtimes_that_hand_them_over() -> None:
    said = {"portMappings": [], spec.POD_ANNOTATIONS: {"mizar.com/vpc": "blue"}}
    assert network(runtimeConfig=said).annotations == {"mizar.com/vpc": "blue"}
    assert network(runtimeConfig={spec.POD_ANNOTATIONS: {}}).annotations == {}
    assert network(runtimeConfig={"portMappings": []}).annotations is None
    assert network().annotations is None
    for wrong in ({spec.POD_ANNOTATIONS: ["x"]}, {spec.POD_ANNOTATIONS: {"a": 1}}, "x"):
        with pytest.raises(Invalid, match="runtimeConfig"):
            network(runtimeConfig=wrong)


def test_bounds_are_of_what_runtimes_say_in_bits() -> None:
    said = {"ingressRate": 8_000_000, "ingressBurst": 80_000, "egressRate": 4_000_000}
    assert network(runtimeConfig={"bandwidth": said}).bandwidth == Bandwidth(
        ingress=Rate(8_000_000, 80_000), egress=Rate(4_000_000)
    )
    capital = {key[0].upper() + key[1:]: value for key, value in said.items()}  # as containerd writes them
    assert network(runtimeConfig={"bandwidth": capital}) == network(runtimeConfig={"bandwidth": said})
    assert network(runtimeConfig={"bandwidth": {}}).bandwidth == network().bandwidth == Bandwidth()
    with pytest.raises(Invalid) as refused:
        network(runtimeConfig={"bandwidth": {"ingressRate": -1, "egressRate": "8M", "egressBurst": True}})
    assert [each.split(": ")[2] for each in refused.value.mistakes] == ["ingressRate", "egressRate", "egressBurst"]
    with pytest.raises(Invalid, match="runtimeConfig: bandwidth"):
        network(runtimeConfig={"bandwidth": 8})


def test_host_ports_are_those_that_are_asked_for() -> None:
    said = [{"HostPort": 8080, "ContainerPort": 80}, {"hostPort": 0}, {"hostPort": 53}]
    assert network(runtimeConfig={"portMappings": said}, hostVpc="blue").ports == (8080, 53)
    assert network(hostVpc="blue").host_vpc == "blue"
    assert network(reserved=[443, 53]).reserved == {53, 443}
    with pytest.raises(Invalid, match="reserved"):
        network(reserved="443")
    assert network(runtimeConfig={}).ports == ()
    for wrong in ({}, ["x"], [{"hostPort": "80"}], [{"hostPort": 65536}], [{"hostPort": -1}]):
        with pytest.raises(Invalid, match="runtimeConfig: portMappings"):
            network(runtimeConfig={"portMappings": wrong})


def test_arguments_are_pairs() -> None:
    assert spec.arguments("IgnoreUnknown=1;K8S_POD_NAME=a=b;") == {"IgnoreUnknown": "1", "K8S_POD_NAME": "a=b"}
    assert spec.arguments("") == {}
    with pytest.raises(Invalid):
        spec.arguments("A;=b")


def test_the_result_names_both_ends_the_address_and_the_way_out() -> None:
    assert result(network()) == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "mz0123", "mtu": 1450},
            {"name": "eth0", "mac": REPLY.mac, "sandbox": "/run/netns/x", "mtu": 1450},
        ],
        "ips": [{"address": "10.0.0.9/32", "gateway": "169.254.1.1", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
    }


def test_an_older_runtime_gets_no_mtu() -> None:
    told = result(network(cniVersion="1.0.0"))
    assert told["cniVersion"] == "1.0.0"
    assert not any("mtu" in each for each in told["interfaces"])


def test_a_result_before_ours_comes_first_and_ours_points_to_our_interface() -> None:
    before = {
        "interfaces": [{"name": "a"}, {"name": "b"}],
        "ips": [{"address": "192.0.2.1/24"}],
        "dns": {"domain": "d"},
    }
    told = result(network(prevResult=before, dns={"domain": "other"}))
    assert [each["name"] for each in told["interfaces"]] == ["a", "b", "mz0123", "eth0"]
    assert told["ips"][0] == before["ips"][0] and told["ips"][1]["interface"] == 3  # type: ignore[index]
    assert told["dns"] == {"domain": "d"}


def test_the_networks_dns_is_handed_on() -> None:
    assert result(network(dns={"nameservers": ["192.0.2.53"]}))["dns"] == {"nameservers": ["192.0.2.53"]}


def test_check_compares_with_the_kept_result() -> None:
    kept = result(network())
    same = network(prevResult=kept)
    assert spec.differences(same, REPLY, "eth0", "/run/netns/x") == []
    other = dataclasses.replace(REPLY, address="10.0.0.8", mac="02:00:00:00:00:08")
    assert len(spec.differences(same, other, "eth0", "/run/netns/x")) == 2
    assert len(spec.differences(same, REPLY, "eth1", "/run/netns/x")) == 1
    with pytest.raises(Invalid):
        spec.differences(network(), REPLY, "eth0", "/run/netns/x")
