"""A process that does nothing but discovery, and tells each change in JSON: `python -m tests.lan_node ID PORT`."""

import asyncio
import ipaddress
import json
import sys
import time

from config.logs import set_up
from peers.network.dialing import OWN_LAN, DialPolicy
from peers.network.discovery import lan
from peers.network.hints import Presence
from peers.wire import NodeId

PAUSE = 1.1
"""Seconds: what was announced within the last one is not replaced by what is announced next (RFC 6762 §10.2)."""
ANY = (ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::"))


async def main(node: str, port: str) -> None:
    presence = Presence(
        me=NodeId(node),
        networks=lambda: ("a network",),
        port=int(port),
        bound=ANY,
        allowed=DialPolicy(OWN_LAN).gossiped,
    )
    async with lan(presence, lambda _: None, time.time) as discovery:
        said = None
        while True:
            await discovery.step()
            hints = {hint.node: [str(address) for address in hint.addresses] for hint in discovery.hints}
            if (discovery.why, hints) != said:
                said = discovery.why, hints
                print(json.dumps({"why": discovery.why, "hints": hints}), flush=True)
            await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    set_up("info", "json")
    asyncio.run(main(*sys.argv[1:]))
