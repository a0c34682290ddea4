#!/bin/bash
# Usage: rpms.sh DIRECTORY
#
# Makes packages that stand for those of Fedora, and a repository of them. They have the names and the
# files by which a system is known, and no programs. Needs rpm, createrepo-c.
set -eu -o pipefail

repository=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
spec=$work/stand-ins.spec
cat >"$spec" <<'END'
%global __os_install_post %{nil}
%global debug_package %{nil}
Name: stand-ins
Version: 1
Release: 1
Summary: Stand-ins
License: MIT
BuildArch: noarch
%description
Stand-ins.
END
# package NAME FILE...: a package with these files. A file's content is standard input if it has any.
package() {
    local name=$1
    shift
    printf '%%package -n %s\nSummary: Stand-in\nAutoReqProv: no\n' "$name" >>"$spec"
    printf '%%description -n %s\nStand-in.\n' "$name" >>"$spec"
    printf '%%files -n %s\n' "$name" >>"$work/files"
    for file in "$@"; do
        mkdir -p "$work/tree${file%/*}"
        [ -e "$work/tree$file" ] || printf '#!/bin/sh\n' >"$work/tree$file"
        chmod 755 "$work/tree$file"
        echo "$file" >>"$work/files"
    done
}
mkdir -p "$work/tree/usr/bin"
cat >"$work/tree/usr/bin/dracut" <<'END'
#!/bin/sh
echo "dracut $*" >"$4"
END
cat >"$work/tree/usr/bin/systemctl" <<'END'
#!/bin/sh
echo "systemctl $*" >>/var/log/systemctl
test "$2" != is-enabled
END
package kernel-core /usr/lib/modules/6.9.9-200.fc99/vmlinuz
package dracut /usr/bin/dracut
package dracut-config-generic /usr/share/dracut-config-generic
package systemd /usr/lib/systemd/systemd /usr/sbin/init /usr/bin/systemctl
package systemd-udev /usr/lib/systemd/systemd-udevd
package systemd-networkd /usr/lib/systemd/systemd-networkd
package systemd-resolved /usr/lib/systemd/systemd-resolved /usr/lib/systemd/system/systemd-resolved.service
package dbus /usr/bin/dbus-broker
package openssh-server /usr/sbin/sshd /usr/lib/systemd/system/sshd.service
{
    printf '%%install\ncp -a %s/tree/. %%{buildroot}/\n' "$work"
    cat "$work/files"
} >>"$spec"
rpmbuild -bb --quiet --define "_topdir $work/top" --define "_rpmdir $repository" "$spec"
createrepo_c --quiet "$repository"
