"""Kernel drops of a socket are those that the kernel's own table shows."""

import os
import socket
from pathlib import Path

from flowray.ingest.listen import listen


def table_drops(listener_socket: socket.socket) -> int:
    """The drops column of /proc/net/udp of a socket."""
    inode = os.fstat(listener_socket.fileno()).st_ino
    rows = Path("/proc/net/udp").read_text().splitlines()[1:]
    (found,) = [row.split() for row in rows if row.split()[9] == str(inode)]
    return int(found[-1])


def test_drops_of_each_socket_are_counted_apart() -> None:
    full, quiet = listen("udp://127.0.0.1:0", 4096), listen("udp://127.0.0.1:0", 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(500):
            sender.sendto(bytes(500), ("127.0.0.1", full.port))
    full.watch()
    quiet.watch()
    assert full.drops == table_drops(full.socket) > 0
    assert quiet.drops == table_drops(quiet.socket) == 0
    received = 0
    while True:
        try:
            full.socket.recv(2048)
        except BlockingIOError:
            break
        received += 1
    assert received + full.drops == 500
    full.watch()
    assert full.drops == 500 - received
    full.close()
    quiet.close()
