//! A stored disk as a user's file, opened again with qemu-img.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use vmfab::digest::ObjectId;
use vmfab::event::{Event, Recorder};
use vmfab::host::{Home, Interrupt};
use vmfab::ops::Context;
use vmfab::ops::export::{ExportError, ExportOptions, export};
use vmfab::ops::format::DiskFormat;

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
    for format in DiskFormat::ALL {
        let name = format!("disk.{format}");
        let exported = export(&setup.context, &setup.options(&name, format)).unwrap();
        assert_eq!(exported.disk_size, SIZE);
        assert!(exported.allocated < 32 << 20, "{format}: {exported:?}");
        let compared = qemu_img(
            &["compare", "-f", "raw", "-F", format.as_str()],
            &[&setup.stored(), &exported.path],
        );
        assert_eq!(compared.trim(), "Images are identical.");
        let info = qemu_img(&["info", "--output=json"], &[&exported.path]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["format"], format.as_str());
        assert_eq!(info["virtual-size"], SIZE);
        let details = &info["format-specific"]["data"];
        match format {
            DiskFormat::Qcow2 => assert_eq!(details["compat"], "1.1"),
            DiskFormat::Vmdk => assert_eq!(details["create-type"], "monolithicSparse"),
            DiskFormat::Raw | DiskFormat::Vhdx => {}
        }
        let events = setup.events.take();
        assert!(
            matches!(&events[0], Event::TaskStarted { name } if name.contains(&format!("disk.{format}")))
        );
        assert!(matches!(&events[1], Event::TaskFinished { .. }));
    }
    assert_eq!(
        setup.listing(),
        ["disk.qcow2", "disk.raw", "disk.vhdx", "disk.vmdk"]
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
    assert!(matches!(error, ExportError::Exists(_)), "{error}");
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
        assert!(matches!(error, ExportError::Interrupted), "{error}");
    }
    assert_eq!(setup.listing(), [""; 0]);
}
