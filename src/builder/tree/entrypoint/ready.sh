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
echo "its health check has not succeeded yet" >&2
exit 81
