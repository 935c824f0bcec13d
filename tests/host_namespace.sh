#!/bin/sh
# A veth pair whose settings are not the defaults, in network and mount namespaces of its own; then the command in the arguments.
# Run as: unshare --net --mount --propagation private sh host_namespace.sh COMMAND...
set -e
mount -t sysfs sysfs /sys
ip link set lo up
ip link add veth0 numrxqueues 2 numtxqueues 2 type veth peer name veth1 numrxqueues 2 numtxqueues 2
"$PYTHON" -c "from calibration.host.access import Host; Host().set_ethtool('features', 'veth0', 'rx-gro', True)"  # without it veth has no NAPI
ip link set veth0 up
ip link set veth1 up
cd /sys/class/net/veth0
echo 1 >threaded
echo 2 >napi_defer_hard_irqs
echo 20000 >gro_flush_timeout
echo 1 >queues/rx-0/rps_cpus
echo 32 >queues/rx-0/rps_flow_cnt
cd - >/dev/null
exec "$@"
