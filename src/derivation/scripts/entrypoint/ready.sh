#!/bin/sh
# Tells vmfab whether the service is healthy: 0 it is, 81 not yet, 82 it is not. Made by vmfab.
state=
[ ! -e /run/container-health/state ] || read -r state </run/container-health/state
case $state in
healthy) exit 0 ;;
unhealthy)
    echo "its health check fails: $(head -c 300 /run/container-health/output 2>/dev/null)" >&2
    exit 82
    ;;
esac
# Its health starts anew with each process, and so never fails when these end at once.
ended=$(systemctl show --value --property NRestarts container.service 2>/dev/null)
if [ "${ended:-0}" -ge 3 ]; then
    echo "its process ended $ended times: see journalctl -u container.service" >&2
    exit 82
fi
# One that nobody starts again never becomes healthy.
property() { systemctl show --value --property "$1" container.service 2>/dev/null; }
case $(property ActiveState) in
inactive | failed)
    if [ "$(property ExecMainExitTimestampMonotonic)" != 0 ]; then
        echo "its process ended, and is not started again: see journalctl -u container.service" >&2
        exit 82
    fi
    ;;
esac
echo "its health check has not succeeded yet" >&2
exit 81
