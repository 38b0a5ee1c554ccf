"""``python _pgm_offload.py DEVICE``: let the kernel compute checksums itself, as ``ethtool -K DEVICE tx off`` does."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    value = array.array("B", struct.pack("II", ETHTOOL_STXCSUM, 0))
    fcntl.ioctl(probe, SIOCETHTOOL, struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0]))
