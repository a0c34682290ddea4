#!/bin/sh
# enter COMMAND…: runs a command as the processes of the container image run, with its ENV and in its
# WORKDIR. Made by vmfab.
home=/
me=$(id -u)
while IFS=: read -r _ _ uid _ _ directory _; do
    if [ "$uid" = "$me" ]; then
        home=${directory:-/}
        break
    fi
done </etc/passwd
read -r hostname </proc/sys/kernel/hostname
# env(1) would take the name of such a program for a variable.
case $1 in *=*) set -- nice -n 0 "$@" ;; esac
cd @WORKDIR@ || exit 1
exec /usr/bin/env -i --@VARIABLES@ "$@"
