fail() {
    echo "$1" >&2
    exit 1
}
# The third and fourth field of the line of the file $1 whose field 1 or 3, as $2 says, is $3.
look_up() {
    test -e "$1" || return 0
    while IFS=: read -r name _ number group _; do
        case $2 in 1) found=$name ;; *) found=$number ;; esac
        if test "$found" = "$3"; then
            echo "$number $group"
            return
        fi
    done <"$1"
}
# The name that the file $1 has for the number $2; if it has none, it gets a line with one.
name_of() {
    while IFS=: read -r name _ number _; do
        if test "$number" = "$2"; then
            echo "$name"
            return
        fi
    done <"$1"
    echo "container$2:*:$2:$3" >>"$1"
    echo "container$2"
}
is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

uid=0 gid=0
if test -n "$WHO"; then
    line=$(look_up /etc/passwd 1 "$WHO")
    if test -z "$line"; then
        is_number "$WHO" || fail "USER is \"$WHO\", and the image has no such account"
        line=$(look_up /etc/passwd 3 "$WHO")
        test -n "$line" || line="$WHO 0"
    fi
    uid=${line% *} gid=${line#* }
fi
if test -n "$GROUP"; then
    line=$(look_up /etc/group 1 "$GROUP")
    if test -n "$line"; then
        gid=${line% *}
    else
        is_number "$GROUP" || fail "USER is \"$WHO:$GROUP\", and the image has no such group"
        gid=$GROUP
    fi
fi

forced=
test "$RESTART" = no || forced='RestartForceExitStatus=SIGHUP SIGINT SIGTERM SIGPIPE'

if test -e /usr/lib/systemd/systemd || test -e /lib/systemd/systemd; then
    mkdir -p /etc/systemd/system
    cat >/etc/systemd/system/container.service <<UNIT
[Unit]
Description=The process of the container image
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/lib/vmfab/container/start
ExecStop=-/usr/lib/vmfab/container/drain
ExecStopPost=-/usr/lib/vmfab/container/drain
User=$uid
Group=$gid
RuntimeDirectory=container
SyslogIdentifier=container
KillMode=mixed
KillSignal=$SIGNAL
TimeoutStopSec=$STOP_TIMEOUT
Restart=$RESTART
$forced
RestartSec=1

[Install]
WantedBy=multi-user.target
UNIT
    systemctl --quiet enable container.service
    test "$HEALTH" = yes || exit 0
    cat >/etc/systemd/system/container-health.service <<UNIT
[Unit]
Description=The health check of the container image
After=container.service
BindsTo=container.service

[Service]
ExecStart=/usr/lib/vmfab/container/health
User=$uid
Group=$gid
RuntimeDirectory=container-health
SyslogIdentifier=container-health
Restart=always
RestartSec=1

[Install]
WantedBy=container.service
UNIT
    systemctl --quiet enable container-health.service
elif command -v rc-update >/dev/null; then
    case $SIGNAL in
    [0-9]*) fail "STOPSIGNAL is $SIGNAL, and OpenRC cannot stop a service with that signal" ;;
    esac
    # OpenRC finds no account by a number where it uses PAM.
    user=$(name_of /etc/passwd "$uid" "$gid::/:/bin/sh")
    group=$(name_of /etc/group "$gid" "")
    cat >/etc/init.d/container <<SERVICE
#!/sbin/openrc-run
description="The process of the container image"
supervisor=supervise-daemon
command=/usr/lib/vmfab/container/start
command_args="/usr/lib/vmfab/container/log container"
command_user="$user:$group"
respawn_delay=1
respawn_max=0
retry="$SIGNAL/$STOP_TIMEOUT/SIGKILL/5"

depend() {
    use logger
    after localmount net firewall
}

start_pre() {
    checkpath --directory --owner "$user:$group" --mode 0755 /run/container
    checkpath --file --owner "$user:$group" --mode 0640 /var/log/container.log
}
SERVICE
    chmod 0755 /etc/init.d/container
    rc-update --quiet add container default
    test "$HEALTH" = yes || exit 0
    cat >/etc/init.d/container-health <<SERVICE
#!/sbin/openrc-run
description="The health check of the container image"
supervisor=supervise-daemon
command=/usr/lib/vmfab/container/health
command_user="$user:$group"
respawn_delay=1
respawn_max=0

depend() {
    need container
}

start_pre() {
    checkpath --directory --owner "$user:$group" --mode 0755 /run/container-health
}
SERVICE
    chmod 0755 /etc/init.d/container-health
    rc-update --quiet add container-health default
else
    fail "the image has neither systemd nor OpenRC, and so nobody who runs its process"
fi
