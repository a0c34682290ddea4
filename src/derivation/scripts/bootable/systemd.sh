# Enables the first of these units that the tree has.
enable() {
    for unit in "$@"; do
        for directory in /etc/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
            if test -e "$directory/$unit"; then
                systemctl --quiet enable "$unit"
                return
            fi
        done
    done
}
# Container images forbid packages to start services, which a machine wants.
rm -f /usr/sbin/policy-rc.d
if ! systemctl --quiet is-enabled ssh.socket 2>/dev/null; then enable ssh.service sshd.service; fi
if test -e /usr/sbin/NetworkManager; then
    enable NetworkManager.service
elif test -e /usr/lib/systemd/systemd-resolved || test -e /lib/systemd/systemd-resolved; then
    enable systemd-resolved.service
    ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
fi
mkdir -p /usr/lib/vmfab /etc/systemd/system
printf '%s' "$SEED" >/usr/lib/vmfab/seed
chmod 0755 /usr/lib/vmfab/seed
cat >/etc/systemd/system/vmfab-seed.service <<'UNIT'
[Unit]
Description=Let in who has the machine's key
# systemd 252 and later do this themselves.
ConditionPathExists=!/run/credentials/@system/tmpfiles.extra
ConditionPathExists=/sys/firmware/dmi/tables/DMI
DefaultDependencies=no
RequiresMountsFor=/root /home
After=local-fs.target
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/vmfab/seed

[Install]
WantedBy=sysinit.target
UNIT
systemctl --quiet enable vmfab-seed.service
