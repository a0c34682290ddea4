# Ends the command that runs now, with what it started.
read -r group </run/vmfab-step || exit 0
kill -TERM "-$group" 2>/dev/null || kill -TERM "$group"
for _ in 1 2 3; do
    kill -0 "-$group" 2>/dev/null || exit 0
    sleep 1
done
kill -KILL "-$group" 2>/dev/null || kill -KILL "$group"
