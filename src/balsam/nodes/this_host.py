"""Which of the hosts of an allocation is this one?"""

from __future__ import annotations

import socket
from collections.abc import Iterable


def is_this_host(name: str) -> bool:
    """Tell whether *name*, with or without domain, or as an address, is this machine.

    Names that are not this machine's own are looked up, which can block for as long as the
    resolver takes; one that cannot be found is another machine's.
    """
    return _same(name, socket.gethostname()) or _is_our_address(name)


def find_this_host(hosts: Iterable[str]) -> str | None:
    """Return the first of *hosts* that is this machine; None when none is.

    Names are compared before any is looked up: a thousand nodes ask this at the same time.
    """
    names, own = list(hosts), socket.gethostname()
    for found in (lambda name: _same(name, own), _is_our_address):
        for name in names:
            if found(name):
                return name
    return None


def _same(name: str, own: str) -> bool:
    """Tell whether two names are one host's: a name without domain has that of the other."""
    first, second = name.rstrip(".").lower(), own.rstrip(".").lower()
    if first == "localhost" or first == second:
        return True
    if "." in first and "." in second:
        return False
    return first.partition(".")[0] == second.partition(".")[0]


def _is_our_address(name: str) -> bool:
    """Tell whether an address of *name* is one of an interface of this machine."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        # Every machine has the loopback's: another one's name may well be given one, by mistake
        # or where several are pretended on one.
        if str(address[0]).startswith(("127.", "::1")) and name != address[0]:
            continue
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)  # the kernel gives it only where the address is its own
                return True
        except OSError:
            continue
    return False
