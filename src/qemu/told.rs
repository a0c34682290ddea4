//! What a running QEMU tells of its machine: its arguments, read back. Pure.

use crate::image::ContainerRef;

/// Begins the SMBIOS string with the container image of a machine.
const CONTAINER: &str = "vmfab.container=";

/// The SMBIOS string that tells which container image a machine is of: for those who look at its
/// QEMU. The guest makes nothing of it.
#[must_use]
pub fn container_string(container: &ContainerRef) -> String {
    format!("{CONTAINER}{container}")
}

/// What a QEMU was told of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub name: Option<String>,
    /// The container image that the machine is of.
    pub container: Option<ContainerRef>,
    /// The port of 127.0.0.1 that leads to the guest's SSH server, unless passt forwards it.
    pub ssh_port: Option<u16>,
}

impl Told {
    /// Reads the arguments of a QEMU that [`arguments`](super::arguments) made.
    #[must_use]
    pub fn of<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut told = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if !matches!(argument, b"-name" | b"-smbios" | b"-netdev") {
                continue;
            }
            let value = arguments.next().map(String::from_utf8_lossy);
            let value = value.unwrap_or_default().replace(",,", "\0");
            let plain = |text: &str| text.replace('\0', ",");
            match argument {
                b"-name" => told.name = Some(plain(&value)),
                b"-smbios" => {
                    let text = value.strip_prefix("type=11,value=").map(plain);
                    let text = text
                        .as_deref()
                        .and_then(|text| text.strip_prefix(CONTAINER));
                    told.container = text.and_then(|text| text.parse().ok()).or(told.container);
                }
                _ => {
                    let forwards = value.split(",hostfwd=tcp:127.0.0.1:").skip(1);
                    let mut ssh = forwards.filter_map(|rule| {
                        let (host, rest) = rule.split_once("-:")?;
                        let guest = rest.split(',').next()?;
                        (guest == "22").then(|| host.parse().ok())?
                    });
                    told.ssh_port = told.ssh_port.or_else(|| ssh.next());
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_back() {
        let container: ContainerRef = format!("{} quay.io/a,b/c:1 d", "5".repeat(64))
            .parse()
            .unwrap();
        let smbios = format!(
            "type=11,value={}",
            container_string(&container).replace(',', ",,")
        );
        let arguments = [
            "/usr/bin/qemu-system-x86_64",
            "-name",
            "web",
            "-smbios",
            "type=1,product=vmfab",
            "-netdev",
            "user,id=net,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:40001-:22",
            "-smbios",
            "type=11,value=io.systemd.credential:a=b",
            "-smbios",
            &smbios,
            "-smbios",
        ];
        let told = Told::of(arguments.map(str::as_bytes));
        assert_eq!(told.name.as_deref(), Some("web"));
        assert_eq!(told.ssh_port, Some(40001));
        assert_eq!(told.container, Some(container));
        assert_eq!(Told::of([]), Told::default());
    }
}
