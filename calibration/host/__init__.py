"""What a host is set to, what it should be set to for a measurement, and how to get there and back.

`access` is the only door to files, netlink, ioctl and programs; `operations` says what can be set and why; `routes` which interfaces are never
touched; `journal` keeps what was there; `tuning` applies and puts back; `check` tells.
"""
