"""Carry packets between two tun devices: shuttle.py FD FD, run by ppp.py with `python3 -IS`.

The devices are the two ends of one point-to-point session and live exactly as long as this process, as a pppN lives
as long as its pppd.
"""

import os
import select
import sys


def main() -> None:
    """Copy until a device is gone."""
    one, two = int(sys.argv[1]), int(sys.argv[2])
    other = {one: two, two: one}
    poll = select.poll()
    for fd in other:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            for _ in range(64):
                try:
                    packet = os.read(fd, 65536)
                except BlockingIOError:
                    break
                except OSError:
                    return
                try:
                    os.write(other[fd], packet)
                except OSError:
                    pass  # the other end is down: lost, as on any line


main()
