# Becomes the command in $2 and on, in the directory $1, leader of its session where there is setsid.
echo $$ >/run/vmfab-step
mkdir -p -- "$1" && cd -- "$1" || exit 125
shift
exec "$@"
