//! Disks that vmfab did not make, with the real cloud-init in them: it alone lets the machine's key
//! in.

use std::fs::File;

use super::super::support::{Machine, Recipes, base};

#[test]
fn cloud_init_lets_in_who_the_seed_says() {
    let recipes = Recipes::new();
    // A disk like those of clouds: nothing in it knows of vmfab's credentials, or of the accounts
    // to come.
    let steps = r#"
    disk size="2G" firmware="uefi"
    packages "cloud-init"
    file "/etc/cloud/cloud.cfg.d/90-vmfab-test.cfg" {
        content "datasource_list: [ NoCloud, Ec2 ]\nnetwork: { config: disabled }\n"
    }"#;
    let cloudy = format!("image \"cloudy\" {{\n    from \"@{}\"{steps}\n}}\n", base());
    recipes.write("cloudy.kdl", &cloudy);
    let qcow2 = ["--output", "cloudy.qcow2", "--format", "qcow2"];
    recipes.build_with("cloudy", qcow2).succeeds();
    let image = |name: &str, seed: &str| {
        format!(
            "image \"{name}\" {{\n    from \"./cloudy.qcow2\"\n    \
             boot firmware=\"uefi\" seed=\"{seed}\" user=\"visitor\"\n}}\n"
        )
    };
    for seed in ["nocloud", "ec2"] {
        let name = format!("seed-{seed}");
        recipes.write(&format!("{name}.kdl"), &image(&name, seed));
        recipes.build(&name).succeeds();

        let user_data = "#cloud-config\ndisable_root: true\nwrite_files:\n  - path: /etc/of-the-user\n    \
                         content: mine\nusers:\n  - name: guest\n    gecos: of the user\n";
        recipes.write("user-data", user_data);
        recipes.write("password", "correct horse");
        let tag = format!("@{name}");
        let arguments = [&tag, "--password-stdin", "--cloud-init", "user-data"];
        let password = File::open(recipes.path("password")).unwrap();
        let machine = Machine::boot_with(&name, recipes.directory(), arguments, password);
        // The user's values win, the lists of both count, and the account has its password.
        assert_eq!(
            machine.output("cat /etc/of-the-user; echo; getent passwd guest | cut -d: -f5"),
            "mine\nof the user",
            "{seed}"
        );
        let root = machine.output("sudo -n tail -n 1 /root/.ssh/authorized_keys");
        assert!(root.contains("Please login as"), "{seed}: {root}");
        assert_eq!(
            machine.output("echo correct horse | su visitor -c 'id -un'"),
            "visitor",
            "{seed}"
        );
        assert_eq!(
            machine.output("id -un; sudo -n id -un"),
            "visitor\nroot",
            "{seed}"
        );
        assert_eq!(machine.output("hostname"), name);
        // No other way than the seed: QEMU was given no credentials.
        let oem = machine.output("sudo -n cat /sys/firmware/dmi/entries/11-*/raw | wc -c");
        assert_eq!(oem, "0", "{seed}");
        let source = machine.output("cloud-id");
        let expected = if seed == "ec2" { "aws" } else { "nocloud" };
        assert!(source.contains(expected), "{seed}: {source}");
        let root = machine.output("sudo -n cat /root/.ssh/authorized_keys");
        assert!(root.contains("vmfab machine of"), "{root}");
        if seed == "ec2" {
            let key = machine.output(
                r#"bash -c "exec 3<>/dev/tcp/169.254.169.254/80
                printf 'GET /latest/meta-data/public-keys/0/openssh-key HTTP/1.0\r\n\r\n' >&3
                tail -n1 <&3""#,
            );
            assert!(
                key.starts_with("ssh-ed25519 ") && root.contains(&key),
                "{key}"
            );
        }
    }
}
