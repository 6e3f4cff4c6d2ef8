"""python-zeroconf looks for the appliance: NAME, ADDRESS (whose interface is asked) and SERVICE come from the environment.

Prints `found NAME HOST PORT ADDRESSES PATH` once the service is there and its name resolves, and `gone` once it has left.
"""

import os
import sys
import threading

from zeroconf import AddressResolver, IPVersion, ServiceBrowser, ServiceStateChange, Zeroconf

NAME, ADDRESS, SERVICE = os.environ["NAME"], os.environ["ADDRESS"], os.environ["SERVICE"]
PATIENCE_S = 60

found, gone = threading.Event(), threading.Event()


def noted(zeroconf, service_type, name, state_change):
    if name == f"{NAME}.{SERVICE}":
        (gone if state_change is ServiceStateChange.Removed else found).set()


zeroconf = Zeroconf(interfaces=[ADDRESS], ip_version=IPVersion.V4Only)
browser = ServiceBrowser(zeroconf, SERVICE, handlers=[noted])
assert found.wait(PATIENCE_S), "the service was not announced"
info = zeroconf.get_service_info(SERVICE, f"{NAME}.{SERVICE}", timeout=PATIENCE_S * 1000)
assert info, "the service was not resolved"
resolver = AddressResolver(f"{NAME}.local.")
assert resolver.request(zeroconf, PATIENCE_S * 1000), "the name was not resolved"
assert resolver.parsed_addresses() == info.parsed_addresses(), (resolver, info)
addresses, path = ",".join(sorted(info.parsed_addresses())), info.properties[b"path"].decode()
print("found", NAME, info.server, info.port, addresses, path, flush=True)
assert gone.wait(PATIENCE_S), "the service did not say goodbye"
print("gone", flush=True)
sys.stdout.close()
zeroconf.close()
