use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_powers_of_1024() {
    assert_eq!(size("512M"), Ok(512 << 20));
    assert_eq!(size("10G"), size("10GiB"));
    assert_eq!(size("1T"), Ok(1 << 40));
    for wrong in [
        "",
        "G",
        "10",
        "10GB",
        "1.5G",
        "-1G",
        "0G",
        " 1G",
        "99999999999999T",
    ] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
    assert!(disk_size("63M").is_err());
    assert!(disk_size("100000K").is_err());
}

#[test]
fn times_modes_and_ports() {
    assert_eq!(duration("5m"), Ok(300));
    assert_eq!(duration("2h"), Ok(7200));
    assert!(duration("5").is_err() && duration("0s").is_err() && duration("1d").is_err());
    assert_eq!(mode("0644"), Ok(0o644));
    assert_eq!(mode("4755"), Ok(0o4755));
    assert!(mode("644 ").is_err() && mode("0888").is_err() && mode("00644").is_err());
    assert!(mode("+644").is_err());
    assert_eq!(port("8080"), Ok(8080));
    assert!(port("0").is_err() && port("65536").is_err() && port("+1").is_err());
}

#[test]
fn values_of_variables() {
    for good in ["", "a b", "\"it's\" $HOME ${x} \\", "ü", &"x".repeat(8000)] {
        assert_eq!(login_value(good), Ok(good.to_owned()));
    }
    let long = "x".repeat(8001);
    for bad in [
        "#ff0000",
        "http://h/p#frag",
        "a\nB=c",
        "a\rb",
        "\u{1b}[0m",
        &long,
    ] {
        assert!(login_value(bad).is_err(), "{bad}");
    }
    assert!(variable_value("#!\n").is_ok());
    assert!(variable_value("a\0b").is_err());
}

#[test]
fn names() {
    for good in ["/", "/etc", "/etc/x/"] {
        assert!(image_path(good).is_ok(), "{good}");
    }
    for bad in ["", "etc", "/etc/../x", "/./x", "//x"] {
        assert!(image_path(bad).is_err(), "{bad}");
    }
    assert!(image_file("/etc/").is_err() && image_file("/").is_err());
    assert!(account("vm").is_ok() && account("_apt").is_ok());
    assert!(account("Vm").is_err() && account("1a").is_err() && account("").is_err());
    assert!(owner("root:adm").is_ok() && owner("0:0").is_ok() && owner("a:b:c").is_err());
    assert!(package("nginx=1.22.1-9").is_ok() && package("libc6:i386").is_ok());
    assert!(package("-y").is_err() && package("a b").is_err() && package("a;b").is_err());
    assert!(service("getty@tty1.service").is_ok() && service("--now").is_err());
    assert!(hostname("a.b-c").is_ok() && hostname("-a").is_err() && hostname("a..b").is_err());
    assert!(label("vmfab-root").is_ok() && label(&"x".repeat(17)).is_err());
    assert!(label("").is_err() && label("a b").is_err());
    assert!(variable("A_1").is_ok() && variable("1A").is_err() && variable("A-B").is_err());
    assert_eq!(shell("bash").unwrap(), ["bash", "-ec"]);
    assert_eq!(shell("python3 -c").unwrap(), ["python3", "-c"]);
}

proptest! {
    #[test]
    fn every_size_reads_back(number in 1_u64..1024, unit in 0_usize..4) {
        let text = format!("{number}{}", ["K", "M", "G", "T"][unit]);
        prop_assert_eq!(size(&text), Ok(number << (10 * (unit + 1))));
    }

    #[test]
    fn nothing_panics(text in ".{0,20}") {
        let _ = (size(&text), duration(&text), mode(&text), image_file(&text), owner(&text));
        let _ = (package(&text), shell(&text), authorized_key(&text), password_hash(&text));
    }
}
