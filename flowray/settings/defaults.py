"""The configuration that serves where none is given: `flowray demo`, and `flowray replay` without
-c.
"""

from __future__ import annotations

from typing import Any

DEFAULT: dict[str, Any] = {
    "views": [
        {
            "name": "by_interface",
            "keys": ["peer_src_ip", "in_iface", "out_iface"],
            "window": "1m",
        },
        {
            "name": "talkers",
            "keys": ["src_host", "dst_host", "proto", "dst_port", "tcpflags"],
            "window": "1m",
            "max_keys": 200_000,
        },
        {
            "name": "by_as",
            "keys": ["src_as", "dst_as"],
            "window": "1m",
        },
    ],
}
