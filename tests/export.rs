//! A stored disk as a user's file, opened again with qemu-img.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use vmfab::digest::ObjectId;
use vmfab::event::{Event, Recorder};
use vmfab::failure::Kind;
use vmfab::host::{Home, Interrupt};
use vmfab::image::{DiskFormat, ImageConfig};
use vmfab::ops::Context;
use vmfab::ops::export::{ExportOptions, advise, export, format};
use vmfab::ops::hypervisor::Hypervisor;

use super::disk::{succeed, tool};

struct Setup {
    scratch: tempfile::TempDir,
    events: Arc<Recorder>,
    context: Context,
    disk: ObjectId,
}

const SIZE: u64 = 3 << 30;

fn setup() -> Setup {
    let scratch = tempfile::tempdir().unwrap();
    let events = Arc::new(Recorder::default());
    let context = Context::new(
        Home::at(scratch.path().join("home")),
        events.clone(),
        Interrupt::new().unwrap(),
    );
    let store = context.store().unwrap();
    let file = store.temporary().unwrap();
    file.as_file().set_len(SIZE).unwrap();
    for at in [0, 5 << 20, (1 << 30) + 7, SIZE - 5] {
        file.as_file().write_all_at(b"bytes", at).unwrap();
    }
    let disk = store.adopt(file).unwrap().id;
    fs::create_dir(scratch.path().join("out")).unwrap();
    Setup {
        scratch,
        events,
        context,
        disk,
    }
}

impl Setup {
    fn options(&self, name: &str, format: DiskFormat) -> ExportOptions {
        ExportOptions {
            disk: self.disk,
            target: self.scratch.path().join("out").join(name),
            format,
            hypervisor: None,
            compress: false,
            force: false,
        }
    }

    /// What is in the target's directory, hidden files too.
    fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.scratch.path().join("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn stored(&self) -> std::path::PathBuf {
        let store = self.context.store().unwrap();
        store.materialise(&self.disk).unwrap()
    }
}

fn qemu_img(words: &[&str], files: &[&Path]) -> String {
    let output = succeed(tool("qemu-img", "qemu-utils").args(words).args(files));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_format_opens_again_with_the_same_content() {
    let setup = setup();
    for (_, format) in DiskFormat::NAMES {
        let name = format!("disk.{format}");
        let exported = export(&setup.context, &setup.options(&name, format)).unwrap();
        assert_eq!(exported.disk_size, SIZE);
        assert!(exported.allocated < 32 << 20, "{format}: {exported:?}");
        let compared = qemu_img(
            &["compare", "-f", "raw", "-F", format.qemu_name()],
            &[&setup.stored(), &exported.path],
        );
        assert_eq!(compared.trim(), "Images are identical.");
        // Only its end says that a fixed VHD is one: QEMU takes it for raw unless told.
        let words = ["info", "--output=json", "-f", format.qemu_name()];
        let info = qemu_img(&words, &[&exported.path]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["format"], format.qemu_name());
        assert_eq!(info["virtual-size"], SIZE);
        let details = &info["format-specific"]["data"];
        match format {
            DiskFormat::Qcow2 => assert_eq!(details["compat"], "1.1"),
            DiskFormat::Vmdk => assert_eq!(details["create-type"], "monolithicSparse"),
            _ => {}
        }
        let events = setup.events.take();
        assert!(
            matches!(&events[0], Event::TaskStarted { name } if name.contains(&format!("disk.{format}")))
        );
        assert!(matches!(&events[1], Event::TaskFinished { .. }));
    }
    assert_eq!(
        setup.listing(),
        [
            "disk.parallels",
            "disk.qcow",
            "disk.qcow2",
            "disk.qed",
            "disk.raw",
            "disk.vdi",
            "disk.vhd",
            "disk.vhdx",
            "disk.vmdk"
        ]
    );
    let vmdk = fs::File::open(setup.scratch.path().join("out/disk.vmdk")).unwrap();
    let mut descriptor = [0; 1024];
    vmdk.read_exact_at(&mut descriptor, 512).unwrap();
    assert!(String::from_utf8_lossy(&descriptor).contains("SPARSE \"disk.vmdk\""));
}

#[test]
fn raw_and_qcow2_are_the_same_each_time() {
    let setup = setup();
    for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
        let [one, two] = ["one", "two"].map(|name| {
            let exported = export(&setup.context, &setup.options(name, format)).unwrap();
            fs::rename(&exported.path, setup.scratch.path().join(name)).unwrap();
            setup.scratch.path().join(name)
        });
        succeed(tool("cmp", "diffutils").args([one, two]));
    }
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let setup = setup();
    let mut options = setup.options("disk.qcow2", DiskFormat::Qcow2);
    fs::write(&options.target, "mine").unwrap();
    let error = export(&setup.context, &options).unwrap_err();
    assert!(error.message().ends_with("already exists"), "{error}");
    assert_eq!(fs::read(&options.target).unwrap(), b"mine");
    options.force = true;
    export(&setup.context, &options).unwrap();
    assert_ne!(fs::read(&options.target).unwrap(), b"mine");
    assert_eq!(setup.listing(), ["disk.qcow2"]);
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    let setup = setup();
    setup.context.interrupt.request();
    for format in [DiskFormat::Raw, DiskFormat::Vhdx] {
        let error = export(&setup.context, &setup.options("disk", format)).unwrap_err();
        assert!(error.is(Kind::Interrupted), "{error}");
    }
    assert_eq!(setup.listing(), [""; 0]);
}

#[test]
fn what_hypervisors_import() {
    let setup = setup();
    let kind = |name: &str, hypervisor: Option<Hypervisor>, compress| {
        let format = DiskFormat::of_path(Path::new(name)).unwrap();
        let options = ExportOptions {
            hypervisor,
            compress,
            ..setup.options(name, format)
        };
        let exported = export(&setup.context, &options).unwrap();
        let compared = qemu_img(
            &["compare", "-f", "raw", "-F", format.qemu_name()],
            &[&setup.stored(), &exported.path],
        );
        assert_eq!(compared.trim(), "Images are identical.", "{name}");
        // Only its end says that a fixed VHD is one: QEMU takes it for raw unless told.
        let words = ["info", "--output=json", "-f", format.qemu_name()];
        let info = qemu_img(&words, &[&exported.path]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        info["format-specific"]["data"].clone()
    };
    let vmware = kind("vmware.vmdk", Some(Hypervisor::Vmware), false);
    assert_eq!(vmware["create-type"], "streamOptimized");
    kind("hyperv.vhdx", Some(Hypervisor::Hyperv), false);
    kind("virtualbox.vdi", Some(Hypervisor::Virtualbox), false);
    kind("plain.qcow2", None, false);
    kind("small.qcow2", Some(Hypervisor::Proxmox), true);
    let size = |name: &str| {
        let file = setup.scratch.path().join("out").join(name);
        fs::metadata(file).unwrap().len()
    };
    assert!(size("small.qcow2") < size("plain.qcow2"));
    let told = |name: &str, said, hypervisor, compress| {
        let format = format(Path::new(name), said, hypervisor, compress);
        format.map_err(|error| error.to_string())
    };
    let vmware = Some(Hypervisor::Vmware);
    assert_eq!(told("web", None, vmware, true), Ok(DiskFormat::Vmdk));
    insta::assert_snapshot!(told("web.qcow2", None, vmware, false).unwrap_err(), @"vmware imports vmdk files, but this is a qcow2 file");
    insta::assert_snapshot!(told("web.raw", None, None, true).unwrap_err(), @"vmfab cannot compress raw files");
    insta::assert_snapshot!(told("web", None, None, false).unwrap_err(), @"cannot tell the format from the file name web");
}

/// An image with a Debian of which only what is looked at is there.
fn debian(setup: &Setup, kernel: &str, drivers: &[&str], more: &[(&str, &str)]) -> ImageConfig {
    let root = setup.scratch.path().join(format!("root-{kernel}"));
    let modules = format!("lib/modules/{kernel}");
    let list = drivers
        .iter()
        .map(|driver| format!("kernel/{driver}.ko.xz: a.ko b.ko\n"));
    let list: String = list.collect();
    let dep = format!("{modules}/modules.dep");
    let builtin = format!("{modules}/modules.builtin");
    let files = [
        ("etc/os-release", "ID=debian\n"),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n",
        ),
        ("etc/shadow", "root:*:1:0:9:7:::\nme:!:1:0:9:7:::\n"),
        (&dep, list.as_str()),
        (&builtin, "kernel/drivers/virtio-net.ko\n"),
    ];
    for (path, content) in files.iter().chain(more) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let store = setup.context.store().unwrap();
    let file = store.temporary().unwrap();
    super::disk::make(&root, file.path(), 0, 64 << 20);
    let disk = store.adopt(file).unwrap();
    let mut config = super::recipes::config("x86_64", &["layer"]);
    config.disk = disk;
    config
}

#[test]
fn what_an_image_lacks_is_told() {
    let setup = setup();
    let told = |config: &ImageConfig, hypervisor: Option<Hypervisor>, format| {
        let options = ExportOptions {
            disk: config.disk.id,
            hypervisor,
            ..setup.options("disk", format)
        };
        setup.events.take();
        advise(&setup.context, config, &options).unwrap();
        let events = setup.events.take().into_iter();
        let warnings = events.filter_map(|event| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        });
        warnings.collect::<Vec<_>>().join("\n")
    };
    let cloud = [
        "drivers/block/virtio_blk",
        "drivers/nvme/host/nvme",
        "drivers/hv/hv_storvsc",
    ];
    let config = debian(&setup, "6.1.0-41-cloud-amd64", &cloud, &[]);
    insta::assert_snapshot!(told(&config, Some(Hypervisor::Vmware), DiskFormat::Vmdk));
    insta::assert_snapshot!(told(&config, None, DiskFormat::Vhdx));
    let nobody = told(&config, None, DiskFormat::Qcow2);
    assert!(nobody.starts_with("nobody can log in"), "{nobody}");
    assert!(!nobody.contains('\n'), "{nobody}");

    let all = [
        "ahci",
        "mptspi",
        "vmw_pvscsi",
        "nvme",
        "e1000",
        "vmxnet3",
        "hv_storvsc",
        "hv_netvsc",
        "ata_piix",
        "virtio_scsi",
    ];
    let keys = [("home/me/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n")];
    let mut config = debian(&setup, "6.1.0-41-amd64", &all, &keys);
    config.template.boot.uefi = true;
    for (_, hypervisor) in Hypervisor::NAMES {
        let told = told(&config, Some(hypervisor), hypervisor.format());
        assert_eq!(told, "", "{hypervisor}");
    }
}
