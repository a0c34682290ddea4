# Runs a command as a step of a build: $1 is what starts it (start.sh), $2 its directory, the rest
# the command. What it leaves running in its session ends with it, or output would never end.
start=$1
shift
umask 022
rm -f /run/vmfab-step
own=$(command -v setsid)
$own sh -c "$start" vmfab "$@"
code=$?
if read -r group 2>/dev/null </run/vmfab-step; then
    kill -KILL "-$group" 2>/dev/null
fi
rm -f /run/vmfab-step
exit $code
