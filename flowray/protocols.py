"""IP protocol numbers and their names.

Two tables, because reading may be more generous than writing. `NAMES` is what rows print: the
keywords that pmacct prints, and the decimal number where it has none, so that rows of both can be
compared. `number` reads those and every keyword of IANA's protocol numbers, in any case.
"""

from __future__ import annotations

_PRINTED: dict[int, str] = {
    1: "icmp",
    2: "igmp",
    3: "ggp",
    4: "ipencap",
    6: "tcp",
    8: "egp",
    9: "igp",
    17: "udp",
    18: "mux",
    41: "ipv6",
    43: "ipv6-route",
    44: "ipv6-frag",
    46: "rsvp",
    47: "gre",
    50: "esp",
    51: "ah",
    55: "mobile",
    56: "tlsp",
    58: "ipv6-icmp",
    59: "ipv6-nonxt",
    60: "ipv6-opts",
    80: "iso-ip",
    83: "vines",
    88: "eigrp",
    89: "ospf",
    91: "larp",
    93: "ax.25",
    94: "ipip",
    98: "encap",
    102: "pnni",
    103: "pim",
    108: "IPcomp",  # the one keyword that pmacct does not print in lower case
    111: "ipx-in-ip",
    112: "vrrp",
    115: "l2tp",
    124: "isis",
    132: "sctp",
    133: "fc",
}

_KEYWORDS = """
0 hopopt|1 icmp|2 igmp|3 ggp|4 ipv4|5 st|6 tcp|7 cbt|8 egp|9 igp|10 bbn-rcc-mon|11 nvp-ii|12 pup
13 argus|14 emcon|15 xnet|16 chaos|17 udp|18 mux|19 dcn-meas|20 hmp|21 prm|22 xns-idp|23 trunk-1
24 trunk-2|25 leaf-1|26 leaf-2|27 rdp|28 irtp|29 iso-tp4|30 netblt|31 mfe-nsp|32 merit-inp|33 dccp
34 3pc|35 idpr|36 xtp|37 ddp|38 idpr-cmtp|39 tp++|40 il|41 ipv6|42 sdrp|43 ipv6-route|44 ipv6-frag
45 idrp|46 rsvp|47 gre|48 dsr|49 bna|50 esp|51 ah|52 i-nlsp|53 swipe|54 narp|55 min-ipv4|56 tlsp
57 skip|58 ipv6-icmp|59 ipv6-nonxt|60 ipv6-opts|62 cftp|64 sat-expak|65 kryptolan|66 rvd|67 ippc
69 sat-mon|70 visa|71 ipcv|72 cpnx|73 cphb|74 wsn|75 pvp|76 br-sat-mon|77 sun-nd|78 wb-mon
79 wb-expak|80 iso-ip|81 vmtp|82 secure-vmtp|83 vines|84 iptm|85 nsfnet-igp|86 dgp|87 tcf|88 eigrp
89 ospfigp|90 sprite-rpc|91 larp|92 mtp|93 ax.25|94 ipip|95 micp|96 scc-sp|97 etherip|98 encap
100 gmtp|101 ifmp|102 pnni|103 pim|104 aris|105 scps|106 qnx|107 a/n|108 ipcomp|109 snp
110 compaq-peer|111 ipx-in-ip|112 vrrp|113 pgm|115 l2tp|116 ddx|117 iatp|118 stp|119 srp|120 uti
121 smp|122 sm|123 ptp|124 isis|125 fire|126 crtp|127 crudp|128 sscopmce|129 iplt|130 sps|131 pipe
132 sctp|133 fc|134 rsvp-e2e-ignore|135 mobility-header|136 udplite|137 mpls-in-ip|138 manet
139 hip|140 shim6|141 wesp|142 rohc|143 ethernet|144 aggfrag|145 nsh|146 homa|147 bit-emu
"""

_ALIASES: dict[str, int] = {"ip": 0, "icmp6": 58, "icmpv6": 58}
"""Names in wide use that are neither printed nor registered."""

NAMES: tuple[str, ...] = tuple(_PRINTED.get(n, str(n)) for n in range(256))
"""What a row prints for each protocol number, 256 strings."""


def _keywords() -> dict[str, int]:
    items = (item.split() for line in _KEYWORDS.split("\n") for item in line.split("|") if item)
    return {keyword: int(number) for number, keyword in items}


_NUMBERS: dict[str, int] = {
    **_ALIASES,
    **_keywords(),
    **{name.lower(): n for n, name in _PRINTED.items()},
}


def name(protocol: int) -> str:
    """What a row prints for a protocol number (0..255): a keyword, or the number in decimal."""
    return NAMES[protocol]


def number(text: str) -> int | None:
    """The protocol number of a keyword in any case, or of a decimal number; else None."""
    if text.isascii() and text.isdecimal():
        # Length first: int() of a very long digit string is slow or refused.
        return int(text) if len(text) <= 3 and int(text) < 256 else None
    return _NUMBERS.get(text.lower())


def keywords() -> frozenset[str]:
    """Every keyword that `number` reads, in lower case."""
    return frozenset(_NUMBERS)
