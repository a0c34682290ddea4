//! What takes the space of an image, and what differs between two.

use std::fs;
use std::path::Path;
use std::process::Command;

use vmfab::store::Store;

use super::super::support::{Browser, Terminal};
use super::Bench;

/// A name that does something where it is not escaped.
pub(super) const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{1b}[2J";

const STATUS: &str = "Package: bash\nStatus: install ok installed\nInstalled-Size: 7000\n\
     Architecture: amd64\nVersion: 5.2-1\n\nPackage: <b>bold</b>\nStatus: install ok installed\n\
     Installed-Size: 12\nArchitecture: all\nVersion: 1\n";

/// A layer: a path that ends with a slash is a directory, another a file of so many bytes.
fn layer(files: &[(&str, usize)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, size) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(*size as u64);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        let path = path.trim_end_matches('/');
        tar.append_data(&mut header, path, &vec![b'x'; *size][..])
            .unwrap();
    }
    tar.into_inner().unwrap()
}

/// A disk with ext4, and what `fill` puts into a directory.
pub(crate) fn disk(fill: impl FnOnce(&Path)) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=test\n").unwrap();
    fs::write(root.join("var/lib/dpkg/status"), STATUS).unwrap();
    fill(&root);
    let disk = directory.path().join("disk");
    let output = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .args([&root, &disk])
        .arg("16M")
        .output()
        .expect("mke2fs runs (package e2fsprogs)");
    assert!(output.status.success(), "{output:?}");
    fs::read(&disk).unwrap()
}

/// A bench with `@layered`, whose second layer replaces and removes files of the first.
fn bench() -> Bench {
    let bench = Bench::new();
    let lowest = layer(&[
        ("etc/", 0),
        ("etc/config", 3000),
        ("usr/", 0),
        ("usr/bin/", 0),
        ("usr/bin/tool", 90_000),
        ("usr/share/", 0),
        (&format!("usr/share/{HOSTILE}"), 5000),
        ("var/", 0),
        ("var/cache", 40_000),
    ]);
    let upper = layer(&[("etc/", 0), ("etc/config", 1000), (".wh.var", 0)]);
    let store = Store::open(bench.home.path().join("store")).unwrap();
    bench.image_of(&store, "layered", &disk(|_| ()), &[&lowest, &upper]);
    bench
}

#[test]
fn directories_layers_packages_and_wasted_files_are_shown() {
    let bench = bench();
    let ran = bench.run(["image", "tree", "@layered"]).ends_with(0);
    insta::assert_snapshot!(ran.stdout, @r"
    @layered: 94 KiB in 3 files below /

    Directories
       93 KiB  99.0 %  usr/
       88 KiB  93.8 %    bin/
      4.9 KiB   5.2 %    share/
       1000 B   1.0 %  etc/
       1000 B   1.0 %    config

    Layers
       SIZE   FILES   WASTED   LAYER          STEP
    135 KiB       4   42 KiB   94d99469e4d3
     1000 B       1      0 B   c317e6d7a17e
    wasted: 42 KiB, 30.9 % of all layers, in 2 files that later layers remove or replace

    Wasted
       SIZE   COPIES   NOW        PATH
     39 KiB        1   removed    /var/cache
    2.9 KiB        1   replaced   /etc/config

    Packages
       SIZE   PACKAGE       VERSION   FOR     BY
    6.8 MiB   bash          5.2-1     amd64   dpkg
     12 KiB   <b>bold</b>   1         all     dpkg
    2 packages: 6.8 MiB
    ");
    let tree = bench
        .run([
            "image", "tree", "@layered", "/usr", "--depth", "0", "--top", "1", "--json",
        ])
        .ends_with(0)
        .json();
    assert_eq!(tree["tree"]["name"], "/usr");
    assert_eq!(tree["tree"]["size"], 95_000);
    assert_eq!(tree["tree"]["below"][0]["below"][0]["name"], "tool");
    assert_eq!(tree["tree"]["others"]["entries"], 1);
    assert_eq!(tree["layers"][0]["wasted"], 43_000);
    assert_eq!(tree["wasted_count"], 2);
    assert_eq!(tree["wasted"].as_array().unwrap().len(), 1);
    assert_eq!(tree["packages_count"], 2);
    let ran = bench
        .run(["image", "tree", "@layered", "--depth", "0"])
        .ends_with(0);
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    assert!(ran.stdout.contains("<img src=x"), "{}", ran.stdout);
}

#[test]
fn a_page_shows_an_image_and_hostile_names_do_nothing_in_it() {
    let bench = bench();
    let path = bench.home.path().join("page.html");
    let file = path.to_str().unwrap();
    let ran = bench
        .run(["image", "tree", "@layered", "--html", file])
        .ends_with(0);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("wrote "), "{}", ran.stderr);
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.contains("Content-Security-Policy\" content=\"default-src &#39;none&#39;"));
    for shown in [
        "&lt;img src=x",
        "&lt;b&gt;bold&lt;/b&gt;",
        "/var/cache",
        "<svg class=\"treemap\"",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    for never in [
        "<img", "<b>", "\u{1b}", "http://", "https://", " style=", "<script",
    ] {
        assert!(!page.contains(never), "{never}");
    }
    let ran = bench
        .run(["image", "tree", "@layered", "--html", "/no-such/page.html"])
        .ends_with(3);
    assert!(ran.stderr.contains("directory /no-such"), "{}", ran.stderr);
    // A page replaces a page, and no other file.
    let again = ["image", "tree", "@layered", "--html", file];
    bench.run(again).ends_with(0);
    fs::write(&path, "my own").unwrap();
    let ran = bench.run(again).ends_with(2);
    assert!(
        ran.stderr.contains("is not a page of vmfab"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "my own");
}

#[test]
fn images_without_layers_show_what_their_disks_have() {
    let bench = bench();
    let store = Store::open(bench.home.path().join("store")).unwrap();
    let filled = disk(|root| fs::write(root.join("large"), vec![0; 70_000]).unwrap());
    bench.image_of(&store, "disk", &filled, &[]);
    bench.image_of(&store, "foreign", &[0; 1 << 20], &[]);
    let tree = bench
        .run(["image", "tree", "@disk", "--json"])
        .ends_with(0)
        .json();
    assert_eq!(tree["tree"]["below"][0]["name"], "large");
    assert_eq!(tree["layers"], serde_json::json!([]));
    assert_eq!(tree["packages"][0]["name"], "bash");
    let ran = bench.run(["image", "tree", "@disk"]).ends_with(0);
    assert!(ran.stdout.contains("there are no layers"), "{}", ran.stdout);
    let ran = bench.run(["image", "tree", "@foreign"]).ends_with(1);
    insta::assert_snapshot!(ran.stderr.trim(), @r"
    error: the disk of @foreign has no ext4 file system
      help: vmfab reads files and packages of ext2, ext3 and ext4 only; vmfab image inspect @foreign shows the sizes of the disk
    ");
    bench
        .run(["image", "tree", "@layered", "/none"])
        .ends_with(3);
    bench
        .run(["image", "tree", "@layered", "relative"])
        .ends_with(2);
    bench.run(["image", "tree", "@none"]).ends_with(3);
    bench
        .run(["image", "diff", "@disk", "@foreign"])
        .ends_with(1);
    // Layers that are no archives are said to be so.
    bench.image("damaged");
    let ran = bench.run(["image", "tree", "@damaged"]).ends_with(1);
    assert!(ran.stderr.contains("read layer "), "{}", ran.stderr);
}

/// A bench with `@old` and `@new`.
fn pair() -> Bench {
    let bench = Bench::new();
    let store = Store::open(bench.home.path().join("store")).unwrap();
    let old = disk(|root| {
        fs::write(root.join("etc/gone"), "12345").unwrap();
        fs::write(root.join("etc/config"), "a").unwrap();
    });
    let new = disk(|root| {
        let status = STATUS.replace("5.2-1", "5.2-2").replace("7000", "7100");
        fs::write(root.join("var/lib/dpkg/status"), status).unwrap();
        fs::write(root.join("etc/config"), "b").unwrap();
        fs::write(root.join(HOSTILE), vec![b'x'; 2048]).unwrap();
    });
    bench.image_of(&store, "old", &old, &[]);
    bench.image_of(&store, "new", &new, &[]);
    bench
}

#[test]
fn two_images_differ_in_packages_and_files() {
    let bench = pair();
    let ran = bench.run(["image", "diff", "@old", "@new"]).ends_with(0);
    let (_, shown) = ran.stdout.split_once('\n').unwrap();
    insta::assert_snapshot!(shown, @r"

    Packages
        SIZE   PACKAGE   BEFORE   AFTER
    +100 KiB   bash      5.2-1    5.2-2

    Files
    A  +2.0 KiB  /<img src=x onerror=alert(1)>�[2J
    C       0 B  /etc/config
    D      -5 B  /etc/gone
    C       0 B  /var/lib/dpkg/status
    ");
    insta::assert_snapshot!(ran.stderr, @"note: packages: 1 changed; files: 1 added, 2 changed, 1 deleted");
    let diff = bench
        .run(["image", "diff", "@old", "@new", "--json"])
        .ends_with(0)
        .json();
    assert_eq!(diff["packages"][0]["after"][0], "5.2-2");
    assert_eq!(diff["files"][1]["what"][0], "content");
    assert_eq!(diff["before"]["packages"], 2);
    let same = bench
        .run(["image", "diff", "@old", "@old", "--json"])
        .ends_with(0)
        .json();
    assert_eq!(
        (&same["files"], &same["packages"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    let path = bench.home.path().join("review.html");
    bench
        .run([
            "image",
            "diff",
            "@old",
            "@new",
            "--html",
            path.to_str().unwrap(),
        ])
        .ends_with(0);
    let page = fs::read_to_string(&path).unwrap();
    for shown in ["From @old to @new", "5.2-2", "&lt;img src=x", "/etc/gone"] {
        assert!(page.contains(shown), "{shown}");
    }
    for never in [
        "<img", "\u{1b}", "http://", "https://", " style=", "<script",
    ] {
        assert!(!page.contains(never), "{never}");
    }
}

/// What every page must bear: the choice of a theme, a printer, a phone.
#[track_caller]
fn is_a_good_page(browser: &Browser) {
    let ground = "return getComputedStyle(document.body).backgroundColor";
    browser.click("#theme-light");
    let light = browser.run(ground);
    browser.click("#theme-dark");
    assert_ne!(browser.run(ground), light);
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    assert!(browser.run(wide).as_i64().unwrap() <= 0);
    // Nobody prints a dark page.
    let printed = "return [...document.styleSheets[0].cssRules]
                   .some(rule => rule.media?.mediaText === 'print')";
    assert_eq!(browser.run(printed), true);
    let pdf = browser.print();
    assert!(pdf.starts_with("JVBERi0"));
    assert!(pdf.len() > 10_000, "{} bytes", pdf.len());
    let pwned = "return [...document.querySelectorAll('img, b, script')].length";
    assert_eq!(browser.run(pwned), 0);
}

#[test]
fn a_browser_shows_what_takes_the_space() {
    let bench = bench();
    let file = bench.home.path().join("tree.html");
    let page = file.to_str().unwrap();
    bench
        .run(["image", "tree", "@layered", "--html", page])
        .ends_with(0);
    let browser = Browser::start(400, 800);
    browser.open(&file);
    assert!(browser.text("h1").contains("@layered"));
    assert!(browser.text("main").contains("42 KiB in 2 files"));
    // Pointing at an area names it, and the name is a text.
    let titles = "return [...document.querySelectorAll('.treemap title')].map(e => e.textContent)";
    let titles = browser.run(titles).to_string();
    assert!(titles.contains("<img src=x onerror=alert(1)>"), "{titles}");
    // A directory opens.
    let seen = "return document.querySelector('.tree details details').checkVisibility()";
    assert_eq!(browser.run(seen), false);
    browser.click(".tree summary");
    assert_eq!(browser.run(seen), true);
    is_a_good_page(&browser);
    browser.is_quiet_about(&file);
}

#[test]
fn a_browser_shows_what_differs() {
    let bench = pair();
    let file = bench.home.path().join("diff.html");
    let page = file.to_str().unwrap();
    bench
        .run(["image", "diff", "@old", "@new", "--html", page])
        .ends_with(0);
    let browser = Browser::start(400, 800);
    browser.open(&file);
    let text = browser.text("main");
    assert!(text.contains("1 added, 2 changed, 1 deleted"), "{text}");
    assert!(!text.contains("/etc/gone"), "{text}");
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true");
    let text = browser.text("main");
    assert!(text.contains("/<img src=x onerror=alert(1)>"), "{text}");
    assert!(text.contains("/etc/gone"), "{text}");
    is_a_good_page(&browser);
    browser.is_quiet_about(&file);
}

#[test]
fn one_walks_through_an_image_in_the_terminal() {
    let bench = bench();
    for columns in [40, 80, 200] {
        let mut tree = Command::new(env!("CARGO_BIN_EXE_vmfab"));
        tree.args(["image", "tree", "@layered", "--interactive"]);
        tree.env("VMFAB_HOME", bench.home.path())
            .env("LC_ALL", "C.UTF-8");
        let terminal = Terminal::open(columns, 12, &tree);
        let screen = terminal.shows("q quit");
        assert!(screen.starts_with("@layered /\n"), "{screen}");
        assert!(screen.contains("usr/"), "{screen}");
        terminal.press(["Enter", "End", "Enter"]);
        let screen = terminal.shows("@layered /usr/share/");
        assert!(screen.contains("<img src=x"), "{screen}");
        assert!(screen.trim_end().ends_with("1/1"), "{screen}");
        terminal.press(["Tab", "Tab"]);
        terminal.shows("/var/cache (removed)");
        terminal.press(["q"]);
        terminal.ends();
    }
    let ran = bench.run(["image", "tree", "@layered", "-i"]).ends_with(2);
    assert!(ran.stderr.contains("needs a terminal"), "{}", ran.stderr);
}
