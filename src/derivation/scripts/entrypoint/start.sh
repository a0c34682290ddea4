#!/bin/sh
# start [READER…]: the image's ENTRYPOINT and CMD. Made by vmfab.
#
# Output goes through a pipe to READER, or to the output of this script: images have links to /dev/stdout
# as their logs, and nobody can open the journal's socket by such a link.
[ $# -gt 0 ] || set -- cat
pipe=/run/container/output
rm -f "$pipe"
mkfifo -m 0600 "$pipe" || exit 1
({ "$@" <"$pipe" && rm -f "$pipe"; } &)
exec /usr/lib/vmfab/container/enter @COMMAND@ >"$pipe" 2>&1
