//! Services, by the tree's own service manager.

use crate::derivation::step::Service;
use crate::sandbox::{Command, Task};

/// `$1` is the service, `$2` is `enable` or `disable`.
const SCRIPT: &str = r#"
if command -v systemctl >/dev/null; then
    # In a tree, systemctl takes unknown services for disabled; in a machine it refuses them.
    if [ "$2" = disable ]; then
        case $(systemctl is-enabled -- "$1" 2>/dev/null) in
        '' | not-found)
            echo "the image has no service $1" >&2
            exit 1
            ;;
        esac
    fi
    exec systemctl "$2" -- "$1"
elif command -v rc-update >/dev/null; then
    case $2 in
        enable) exec rc-update add "$1" default ;;
        *) exec rc-update --all delete "$1" ;;
    esac
fi
echo "the image has neither systemd nor OpenRC" >&2
exit 1
"#;

pub(super) fn tasks(params: &Service) -> Vec<Task> {
    let action = if params.enable { "enable" } else { "disable" };
    let argv = ["/bin/sh", "-euc", SCRIPT, "service", &params.name, action];
    vec![Task::Command(Command {
        label: Some(format!("{action} service {}", params.name)),
        argv: argv.map(str::to_owned).into(),
        ..Command::default()
    })]
}
