# Whether the process of the service has ended with code 0: 0 it has, 81 not yet, 82 it failed.
of() { systemctl show --value --property "$1" container.service; }
if [ "$(of LoadState)" != loaded ]; then
    echo "it has no process that could end, or no systemd that tells" >&2
    exit 82
fi
case $(of ActiveState) in
inactive) [ "$(of ExecMainExitTimestampMonotonic)" = 0 ] || exit 0 ;;
failed)
    echo "its process ended with code $(of ExecMainStatus): see journalctl -u container.service" >&2
    exit 82
    ;;
esac
if [ "$(of NRestarts)" -ge 3 ]; then
    echo "its process failed $(of NRestarts) times: see journalctl -u container.service" >&2
    exit 82
fi
exit 81
