"""A bridge between two interfaces that lets frames overtake each other and come twice. Run in a namespace of its own.

``python _pgm_relay.py LEFT RIGHT REORDERED DUPLICATED``: of the multicast frames from left to right that share is held
back behind up to five later ones, and that share is sent twice. Everything else passes as it came.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time

ALL = 0x0003  # ETH_P_ALL
OUTGOING = 4  # PACKET_OUTGOING


def main(left: str, right: str, reordered: float, duplicated: float) -> None:
    chance = random.Random(1)
    ends = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL)) for _ in (left, right)]
    for end, name in zip(ends, (left, right), strict=True):
        end.bind((name, 0))
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    held: list[tuple[float, int, bytes]] = []  # until when at the latest, behind how many, what
    print('{"ready": true}', flush=True)
    while True:
        for end in select.select(ends, [], [], 0.005)[0]:
            frame, address = end.recvfrom(65535)
            if address[2] == OUTGOING:
                continue
            other = ends[1 - ends.index(end)]
            is_multicast = end is ends[0] and frame[0] & 1 and frame[12:14] == b"\x08\x00"
            if is_multicast and chance.random() < reordered:
                held.append((time.monotonic() + 0.02, chance.randint(1, 5), frame))
                continue
            other.send(frame)
            if is_multicast and chance.random() < duplicated:
                other.send(frame)
            if is_multicast:
                held = [(until, behind - 1, each) for until, behind, each in held]
        now = time.monotonic()
        for until, behind, frame in [*held]:
            if until <= now or behind <= 0:
                ends[1].send(frame)
                held.remove((until, behind, frame))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
