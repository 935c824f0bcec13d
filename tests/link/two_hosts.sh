#!/bin/sh
# Two hosts in network namespaces: this one with port rx0, the other one (process $OTHER) with port tx0 at the far end; then the command.
# Run as: unshare --net --mount --propagation private sh two_hosts.sh COMMAND...
set -e
mount -t sysfs sysfs /sys
no_ipv6='for scope in all default; do file=/proc/sys/net/ipv6/conf/$scope/disable_ipv6; test ! -e $file || echo 1 >$file; done'
eval "$no_ipv6"
unshare --net sleep 600 &
OTHER=$!
export OTHER
trap 'kill $OTHER' EXIT
while test "$(readlink /proc/$OTHER/ns/net)" = "$(readlink /proc/self/ns/net)"; do sleep 0.01; done
nsenter --target $OTHER --net sh -c "$no_ipv6"
ip link add rx0 type veth peer name tx0 netns $OTHER
# GRO gives veth its ring and NAPI; without, it loses frames in the backlog that its TX counter has not counted
"$PYTHON" -S -c 'import array, fcntl, socket, struct
value = array.array("B", struct.pack("II", 0x2C, 1))
fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sQ16x", b"rx0", value.buffer_info()[0]))'
ip link set rx0 up
nsenter --target $OTHER --net ip link set tx0 up
eval "$PREPARE"
"$@"
