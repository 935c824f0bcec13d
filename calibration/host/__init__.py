"""What a host is set to, what it should be set to for a measurement, and how to get there and back.

`access` is the only door to files, netlink, ioctl and programs. `operations` lists what can be set, `operation` says what each has to know, and
`interface_operations` and `host_operations` know it. `routes` tells which interfaces are never touched, `journal` keeps what was there, `tuning`
applies and puts back, `check` tells, and `session` is the two commands.
"""
