"""Dynamic resource: an image of ours (`infra/images.py`) in one emulated node's containerd, where there is no registry.

The image before stays until the next one: pods that a rollout has not reached yet may have to start again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation.cluster import images, machines
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class NodeImageProps:
    """`reference`, `archive`: of `infra.images.Built`. Of another name, it is another resource."""

    stack: str
    host: str
    reference: str
    archive: str


class NodeImageProvider(Provider[NodeImageProps]):
    props = NodeImageProps
    identity = ("stack", "host")
    silent = ("archive",)

    def observe(self, props: NodeImageProps) -> Outputs | None:
        places = StackPlaces(props.stack)
        seen = machines.inspect(places, props.host)
        if seen is None or not seen.pid:
            return None
        return {"loaded": props.reference in images.names(places, props.host), "image": props.reference}

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["loaded"])

    def ensure(self, props: NodeImageProps, had: NodeImageProps | None) -> Outputs:
        places = StackPlaces(props.stack)
        present = images.names(places, props.host)
        if props.reference not in present:
            _load(places, props)
        kept = {props.reference, had.reference if had else props.reference}
        own = {name for name in present if name.startswith(f"{props.reference.partition('@')[0]}@")}
        images.remove(places, props.host, *(own - kept))
        return {"loaded": True, "image": props.reference}

    def remove(self, props: NodeImageProps) -> None:
        """The node's disk goes with the node."""


class NodeImage(Made, module="local", name="NodeImage"):
    """`image`: what pods on this node ask for, known once it is there."""

    image: pulumi.Output[str]
    loaded: pulumi.Output[bool]

    def __init__(self, name: str, props: NodeImageProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(NodeImageProvider(), name, props, ("image", "loaded"), opts)


def _load(places: StackPlaces, props: NodeImageProps) -> None:
    # The machine sees its own folder only.
    inside = places.host(props.host).root / f"image-{props.reference.rpartition(':')[2][:12]}.tar"
    try:
        shutil.copyfile(props.archive, inside)
        images.load(places, props.host, inside, props.reference)
    except OSError as error:
        raise Permanent(f"load image {props.reference} on {props.host}: {error}") from error
    finally:
        inside.unlink(missing_ok=True)
