"""Which code of the endpoint protocol an error is. Called by `host` and `plugin`. Pure."""

from __future__ import annotations

from node_agent.agent.claims import Exhausted
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply
from node_agent.cni.spec import OtherVersion
from node_agent.model.errors import Invalid, MizarError, StoreError, Temporary

_CODES: tuple[tuple[type[MizarError], int], ...] = (
    (Exhausted, protocol.EXHAUSTED),
    (OtherVersion, protocol.OTHER_VERSION),
    (Invalid, protocol.INVALID_CONFIG),
    (Temporary, protocol.TRY_AGAIN),
    (StoreError, protocol.TRY_AGAIN),
)


def refusal(error: MizarError) -> Reply:
    """The reply to a request that failed so."""
    code = next((code for cls, code in _CODES if isinstance(error, cls)), protocol.FAILED)
    return Reply(code=code, message=str(error))
