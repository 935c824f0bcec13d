"""A generator: UDP frames from a packet socket. INTERFACE DESTINATION FRAME_BYTES FLOWS PPS [MOST], then it exits with status 3."""

import socket
import sys
import time

from calibration.load.frame import frame

interface, destination, frame_bytes, flows, pps, *most = sys.argv[1:]
frames = [bytes.fromhex(destination.replace(":", "")) + frame(int(frame_bytes), port)[6:] for port in range(int(flows))]
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
link.bind((interface, 0))
limit = int(most[0]) if most else sys.maxsize
began, sent = time.monotonic(), 0
while sent < limit:
    due = min(limit, int((time.monotonic() - began) * int(pps)))
    for number in range(sent, due):
        link.send(frames[number % len(frames)])
    sent = max(sent, due)
    time.sleep(0.001)
print("sent enough", file=sys.stderr)
sys.exit(3)
