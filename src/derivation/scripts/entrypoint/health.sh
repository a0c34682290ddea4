#!/bin/sh
# The image's HEALTHCHECK. Made by vmfab.
#
# A failure counts when the start period is over, and not more often than once in an interval: as with
# docker. Before the first success there are more checks between these, which only look for it.
directory=/run/container-health
retries=@RETRIES@
failures=0

# Hundredths of a second since the start of the machine.
now() {
    read -r uptime _ </proc/uptime
    echo $((${uptime%.*} * 100 + 1${uptime#*.} - 100))
}

tell() {
    state=$1
    echo "$state" >"$directory/state.new" && mv "$directory/state.new" "$directory/state"
}

counts=$(($(now) + @START_TICKS@ + @INTERVAL_TICKS@))
tell starting
while :; do
    if [ "$state" = starting ]; then sleep @SOON@; else sleep @INTERVAL@; fi
    if timeout -s KILL @TIMEOUT@ /usr/lib/vmfab/container/enter @COMMAND@ \
        >"$directory/output" 2>&1 </dev/null; then
        failures=0
        if [ "$state" != healthy ]; then
            tell healthy
            echo "healthy"
        fi
        continue
    fi
    if [ "$state" = starting ]; then
        [ "$(now)" -ge "$counts" ] || continue
        counts=$(($(now) + @INTERVAL_TICKS@))
    fi
    failures=$((failures + 1))
    echo "check $failures of $retries failed: $(head -c 1000 "$directory/output")"
    if [ "$failures" -ge "$retries" ] && [ "$state" != unhealthy ]; then
        tell unhealthy
        echo "unhealthy"
    fi
done
