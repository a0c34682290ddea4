use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// A disk whose second half has to be waited for, and cannot be read when it is broken.
#[derive(Clone)]
struct Slow {
    bytes: Vec<u8>,
    broken: bool,
}

impl Slow {
    fn copy(&self, buffer: &mut [u8], offset: u64) {
        let offset = offset as usize;
        buffer.copy_from_slice(&self.bytes[offset..offset + buffer.len()]);
    }
}

impl Disk for Slow {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        let now = offset + buffer.len() as u64 <= self.size() / 2;
        if now {
            self.copy(buffer, offset);
        }
        Ok(now)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::Other.into());
        }
        self.copy(buffer, offset);
        Ok(())
    }
}

fn disk(broken: bool) -> Slow {
    let numbers = (0..1_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761));
    Slow {
        bytes: numbers.flat_map(u32::to_le_bytes).collect(),
        broken,
    }
}

/// Runs a program of QEMU's in a directory against a disk, whose address `URL` stands for.
fn run(directory: &Path, disk: &Slow, line: &str) -> (bool, String) {
    let socket = directory.join("socket");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let disk = disk.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let disk = disk.clone();
            std::thread::spawn(move || serve(&stream.unwrap(), &disk));
        }
    });
    let line = line.replace("URL", "nbd+unix:///disk?socket=socket");
    let mut words = line.split(' ');
    let program = words.next().unwrap();
    // An underscore is a space within a word.
    let ran = Command::new(program)
        .args(words.map(|word| word.replace('_', " ")))
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{program} (package qemu-utils): {error}"));
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn qemu_reads_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(false);
    let run = |line| run(directory.path(), &disk, line);
    let (done, said) = run("qemu-img info --output=json URL");
    assert!(done && said.contains("\"virtual-size\": 4194304"), "{said}");
    let (done, said) = run("qemu-img convert -f raw -O raw URL copy");
    assert!(done, "{said}");
    let copy = std::fs::read(directory.path().join("copy")).unwrap();
    assert!(copy == disk.bytes, "the copy has other bytes");
    // Many requests in flight, over the middle and again from the start.
    let (done, said) = run("qemu-img bench -f raw -t none -c 4000 -d 64 -s 8192 URL");
    assert!(done, "{said}");
}

#[test]
fn what_cannot_be_is_refused_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(true);
    let run = |line| run(directory.path(), &disk, line);
    let (_, said) = run("qemu-io -r -f raw -c read_3M_4k -c read_1M_4k URL");
    assert!(said.contains("Input/output error"), "{said}");
    assert!(
        said.contains("read 4096/4096 bytes at offset 1048576"),
        "{said}"
    );
    let (done, said) = run("qemu-io -f raw -c write_0_512 URL");
    assert!(!done && said.contains("Permission denied"), "{said}");
    let (done, said) = run("qemu-img info nbd+unix:///other?socket=socket");
    assert!(!done && said.contains("other"), "{said}");
}

proptest! {
    #[test]
    fn any_client_is_served_or_left(
        choice in 0..3_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let disk = Slow { bytes: vec![7; 64 << 10], broken: false };
        let (server, mut client) = UnixStream::pair().unwrap();
        let started = [&1_u32.to_be_bytes()[..], b"IHAVEOPT", &1_u32.to_be_bytes(), &[0; 4]];
        let request = [&started.concat()[..], &REQUEST_MAGIC.to_be_bytes(), &[0; 2]].concat();
        let begins = [Vec::new(), started.concat(), request];
        client.write_all(&[&begins[choice][..], &bytes].concat()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let reader = std::thread::spawn(move || io::copy(&mut client, &mut io::sink()));
        let _ = serve(&server, &disk);
        drop(server);
        reader.join().unwrap().unwrap();
    }
}
