"""The rig of tests/kernel in a whole machine: the box is the machine itself, with its systemd, its kernel and its pppd.

live.py         Live: what a test gets from the fixture of the same name
here.py         the machine's own network as the box
journal.py      what was logged, by the journal
pppoe.py        a provider with a real pppoe-server, and a line by the machine's pppd
"""

from .live import Live

__all__ = ["Live"]
