# $1 seconds at most, $2 what kind, $3 which. Ends with 3 when the guest has no such thing.
reached() {
	case $1 in
	port)
		cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$2 [0-9A-F]*:0000 0A "
		;;
	service)
		if [ -d /run/systemd/system ]; then
			[ "$(systemctl show -P LoadState -- "$2")" != not-found ] || exit 3
			systemctl is-active -q -- "$2"
		else
			[ -e "/etc/init.d/$2" ] || exit 3
			rc-service -- "$2" status >/dev/null 2>&1 || service "$2" status >/dev/null 2>&1
		fi
		;;
	boot)
		if [ -d /run/systemd/system ]; then
			case $(systemctl is-system-running) in
			running | degraded) ;;
			*) false ;;
			esac
		else
			# OpenRC: no service is starting.
			! rc-status -f ini -s 2>/dev/null | grep -q '= *starting'
		fi
		;;
	esac
}
end=$(($(cut -d. -f1 /proc/uptime) + $1))
until reached "$2" "$3"; do
	[ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || exit 1
	sleep 0.2 2>/dev/null || sleep 1
done
