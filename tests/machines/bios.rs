//! Disks with a boot sector of their own, and the ways in which an image can be booted.

use vmfab::image::{DiskBus, Nic, Platform, Seed};
use vmfab::ops::RecipeChoice;

use super::*;

#[test]
fn a_bios_starts_the_boot_sector_of_the_disk() {
    let bench = Bench::new();
    bench.image("sector", b"", |config| {
        let store = Store::open(bench.home.join("store")).unwrap();
        config.disk = store.put_bytes(&tiny_disk()).unwrap();
        config.kernel = None;
        config.template.filesystem = None;
        config.template.boot = BootProfile {
            command_line: "".parse().unwrap(),
            firmware: Firmware::Bios,
            uefi: false,
            bios: true,
            seed: Seed::None,
            platform: vmfab::image::Platform::default(),
            ignition: None,
        };
    });
    let image = bench
        .run(["image", "inspect", "sector"])
        .ends_with(0)
        .stdout;
    assert!(image.contains("boots:        BIOS\n"), "{image}");
    assert!(image.contains("seed:         none\n"), "{image}");
    for (firmware, missing) in [
        ("uefi", "boot loader for UEFI"),
        ("direct", "kernel of its own"),
    ] {
        bench
            .run(["boot", "@sector", "--firmware", firmware])
            .ends_with(1)
            .says(missing)
            .says("boot it with --firmware bios, or add one to its recipe");
    }
    let context = bench.context();
    let image = images::find(&context, "sector").unwrap();
    let booted = machine::boot(&context, &image, &Bench::options()).unwrap();
    let name = booted.name.as_str();
    bench.wait_for_log(name, "tiny: up");
    let shown = bench.run(["inspect", name]).ends_with(0).stdout;
    assert!(
        shown.contains("boots:        BIOS\nacceleration: tcg\nseed:         none\n"),
        "{shown}"
    );
    bench.run(["stop", name]).ends_with(0);

    bench
        .run(["boot", "@tiny", "--firmware", "bios"])
        .ends_with(1)
        .says("boot loader for a BIOS")
        .says("boot it with --firmware direct, or add one to its recipe");
}

#[test]
fn an_image_says_what_hardware_its_guest_knows() {
    let bench = Bench::new();
    bench.image("old", &tiny_kernel(), |config| {
        config.template.boot.seed = Seed::Nocloud;
        config.template.boot.platform = Platform {
            machine_type: Some("pc".parse().unwrap()),
            disk_bus: Some(DiskBus::Sata),
            nic: Some(Nic::E1000),
        };
    });
    let image = bench.run(["image", "inspect", "old"]).ends_with(0).stdout;
    let said = "machine type: pc\ndisk bus:     sata\nnetwork card: e1000\n";
    assert!(image.contains(said), "{image}");

    let context = bench.context();
    let image = images::find(&context, "old").unwrap();
    let boot = |name: &str, machine_type: Option<&str>, disk_bus| {
        let mut options = Bench::options();
        options.name = Some(name.parse().unwrap());
        let platform = &mut options.hardware.devices.platform;
        platform.machine_type = machine_type.map(|kind| kind.parse().unwrap());
        platform.disk_bus = disk_bus;
        if name == "sata" {
            options.hardware.disks = vec![FurtherDisk::Empty(1 << 20); 6];
        }
        machine::boot(&context, &image, &options).unwrap();
        bench.wait_for_log(name, "tiny: up");
        let [qemu] = bench.processes()[..] else {
            panic!("{:?}", bench.processes());
        };
        let qemu = fs::read_to_string(format!("/proc/{qemu}/cmdline")).unwrap();
        let snapshot = ["snapshot", "create", name, "--machine", name];
        bench.run(snapshot).ends_with(0);
        bench.run(["rm", "--force", name]).ends_with(0);
        qemu
    };
    // QEMU takes them, and the seed is on the bus of the disks.
    let asked = boot("as-it-says", None, None);
    for argument in ["pc", "ide-hd,drive=seed", "e1000,netdev=net,romfile="] {
        assert!(asked.split('\0').any(|one| one == argument), "{asked:?}");
    }
    let other = boot("otherwise", Some("q35"), Some(DiskBus::Virtio));
    for argument in [
        "q35",
        "virtio-blk-pci,drive=seed",
        "e1000,netdev=net,romfile=",
    ] {
        assert!(other.split('\0').any(|one| one == argument), "{other:?}");
    }
    let sata = boot("sata", Some("q35"), Some(DiskBus::Sata));
    // A controller has six ports.
    let last = "ide-hd,drive=disk6,bus=sata1.0";
    assert!(sata.contains(last) && sata.contains("ide-hd,drive=seed,bus=sata1.1"));
    boot("scsi", Some("q35"), Some(DiskBus::Scsi));
    boot("nvme", Some("q35"), Some(DiskBus::Nvme));
}

#[test]
fn the_file_of_a_disk_is_booted() {
    let bench = Bench::new();
    let file = bench.directory.path().join("My Disk.img");
    fs::write(&file, tiny_disk()).unwrap();
    let context = bench.context();
    let path = file.to_str().unwrap();
    let options = ImageOptions {
        choice: RecipeChoice {
            recipe: path.to_owned(),
            ..RecipeChoice::default()
        },
        ..ImageOptions::default()
    };
    let image = machine::image(&context, options).unwrap();
    assert_eq!(
        (image.tags.len(), &*image.config.template.name),
        (0, "mydisk")
    );
    let options = BootOptions {
        hardware: Hardware {
            firmware: Some(Firmware::Bios),
            ..Bench::options().hardware
        },
        ..Bench::options()
    };
    let booted = machine::boot(&context, &image, &options).unwrap();
    bench.wait_for_log(booted.name.as_str(), "tiny: up");
    bench
        .run(["rm", "--force", booted.name.as_str()])
        .ends_with(0);

    fs::write(&file, b"\x1f\x8b\x08, and what is compressed").unwrap();
    bench
        .run(["boot", path])
        .ends_with(4)
        .says("it is gz data, not a disk")
        .says("decompress it first");
}
