//! `RUN`, `USER`, `WORKDIR`, `SHELL`.

use super::Kitchen;

#[test]
fn a_process_has_the_users_and_the_environment_of_the_image() {
    let kitchen = Kitchen::new(
        r#"
RUN env | sort; id; umask
ENV GREETING="hello world" HOME=
USER node
RUN echo $GREETING; id; echo $HOME; touch /tmp/mine /var/mine; stat -c '%n %U:%G' /tmp/mine; grep CapEff /proc/self/status
USER 1000:27
WORKDIR /work/deep
RUN id; pwd; stat -c '%n %a %U:%G' /work /work/deep
USER 4242
RUN id; echo $HOME
USER root:sudo
RUN id; ls /tmp
"#,
    );
    insta::assert_snapshot!(kitchen.output(), @r#"
    HOME=/root
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    PWD=/
    SHLVL=1
    uid=0(root) gid=0(root)
    0022
    hello world
    uid=1000(node) gid=1001(node) groups=27(sudo)
    /home/node
    touch: /var/mine: Permission denied
    /tmp/mine node:node
    CapEff:	0000000000000000
    uid=1000(node) gid=27(sudo)
    /work/deep
    /work 755 node:sudo
    /work/deep 755 node:sudo
    uid=4242 gid=0(root)
    /
    uid=0(root) gid=27(sudo)
    mine
    "#);
}

#[test]
fn forms_of_run() {
    let kitchen = Kitchen::new(
        r##"
RUN ["echo", "$HOME", "a  b"]
RUN echo "a  $HOME" | cat
RUN <<END
echo one
false
echo two
END
RUN <<END
#!/bin/awk -f
BEGIN { print "from awk" }
END
RUN cat <<ONE >/1; cat <<-TWO /1 -
one
ONE
	two
	TWO
SHELL ["/bin/sh", "-xc"]
RUN echo three 2>&1
SHELL ["/bin/sh", "-c"]
RUN ls -a /dev/pipes 2>&1; kill -0 1 && echo first
RUN --network=none ip -o link | cut -d' ' -f2
"##,
    );
    insta::assert_snapshot!(kitchen.output(), @r#"
    $HOME a  b
    a  /root
    one
    two
    from awk
    one
    two
    + echo three
    three
    ls: /dev/pipes: No such file or directory
    first
    lo:
    "#);
}

#[test]
fn what_one_process_leaves_the_next_one_finds() {
    let kitchen = Kitchen::new(
        r#"
RUN mkdir -p /run/lock /var/lib/apt/lists && echo 1 >/run/lock/x && echo 2 >/tmp/x && echo 3 >/var/lib/apt/lists/x
RUN cat /run/lock/x /tmp/x /var/lib/apt/lists/x; cat /etc/hosts | grep -c localhost
RUN test -e /etc/hosts; ls /usr/sbin
COPY --from=0 /etc /copied
RUN ls /copied
"#,
    );
    insta::assert_snapshot!(kitchen.output(), @r#"
    1
    2
    3
    2
    policy-rc.d
    sshd
    group
    os-release
    passwd
    "#);
}

#[test]
fn what_cannot_run_is_said() {
    let kitchen = Kitchen::new("");
    let cases = [
        (
            "RUN [\"none\", \"x\"]",
            "cannot start: none is in no directory of PATH",
        ),
        ("RUN [\"/etc/passwd\"]", "cannot start: /etc/passwd"),
        ("RUN exit 7", "exited with code 7"),
        ("USER nobody\nRUN id", "the image has no user \"nobody\""),
        ("USER node:none\nRUN id", "the image has no group \"none\""),
        ("USER node\nRUN echo >/etc/x", "Permission denied"),
    ];
    for (instructions, expected) in cases {
        let said = kitchen.refused(instructions);
        let said = said.to_lowercase();
        assert!(
            said.contains(&expected.to_lowercase()),
            "{instructions}:\n{said}"
        );
    }
}
