//! `RUN --mount`.

use std::fs;

use super::Kitchen;

#[test]
fn mounts_are_seen_and_leave_nothing() {
    let kitchen = Kitchen::new(
        r#"
FROM base AS made
RUN mkdir -p /out && echo made >/out/file && chown node /out/file
FROM base
RUN --mount=type=bind,source=dir,target=/mnt/a/b cat /mnt/a/b/file; touch /mnt/a/b/x 2>&1 || true
RUN --mount=type=bind,source=dir,target=/mnt/a/b,rw echo more >>/mnt/a/b/file; cat /mnt/a/b/file
RUN --mount=type=bind,source=dir,target=/mnt/a/b cat /mnt/a/b/file
RUN --mount=type=bind,source=dir/file,target=/root/one cat /root/one
RUN --mount=type=bind,from=made,source=/out,target=/m ls -ln /m | tail -1 | cut -c1-32
RUN --mount=type=bind,from=made,target=/m,rw rm /m/out/file && echo x >/m/new && ls /m/new
RUN --mount=type=bind,from=made,target=/m cat /m/out/file; ls /m/new 2>&1 || true
RUN --mount=type=tmpfs,target=/tm,size=1m stat -c %a /tm; dd if=/dev/zero of=/tm/x bs=1M count=2 2>&1 | head -1
RUN --mount=type=tmpfs,target=/var --mount=type=bind,source=dir,target=/var/in cat /var/in/file
RUN --mount=type=bind,source=dir,target=/mnt/a mkdir /mnt/kept && ls /mnt
RUN ls -A /mnt /m /tm /root 2>&1 || true
"#,
    );
    kitchen.file("dir/file", "content\n", 0o644);
    insta::assert_snapshot!(kitchen.output(), @r#"
    content
    touch: /mnt/a/b/x: Read-only file system
    content
    more
    content
    content
    -rw-r--r--    1 1000     0
    /m/new
    made
    ls: /m/new: No such file or directory
    1777
    dd: error writing '/tm/x': No space left on device
    content
    a
    kept
    ls: /m: No such file or directory
    ls: /tm: No such file or directory
    ls: /root: No such file or directory
    /mnt:
    kept
    "#);
}

#[test]
fn a_cache_outlives_builds_and_is_collected() {
    let step = |number: u32| {
        format!(
            "RUN --mount=type=cache,target=/c,id=mine,uid=1000,gid=27,mode=0750 \
             echo {number} >>/c/log; cat /c/log | tr '\\n' ' '; stat -c '%a %u:%g' /c\n\
             RUN test ! -e /c/log\n\
             RUN --mount=type=cache,target=/c,id=other,from=base,source=/etc ls /c/os-release"
        )
    };
    let kitchen = Kitchen::new(&step(1));
    assert_eq!(kitchen.output(), "1 750 1000:27\n/c/os-release");
    kitchen.write(&step(2));
    assert_eq!(kitchen.output(), "1 2 750 1000:27");
    let stat = kitchen
        .run(&["store", "stat", "--json"])
        .ends_with(0)
        .json();
    assert!(
        stat["caches"]["mounts"]["files"].as_u64() > Some(1),
        "{stat:#}"
    );
    let kept = kitchen.run(&["store", "gc", "--json"]).ends_with(0).json();
    assert_eq!(kept["mounts"]["removed"], 0, "{kept:#}");
    let words = ["store", "gc", "--json", "--older-than", "0s"];
    let gone = kitchen.run(&words).ends_with(0).json();
    assert_eq!(gone["mounts"]["removed"], 2, "{gone:#}");
    let left = fs::read_dir(kitchen.path("home/cache/mounts")).unwrap();
    assert_eq!(left.count(), 0);
    kitchen.write(&step(3));
    assert_eq!(kitchen.output().lines().next(), Some("3 750 1000:27"));
}

#[test]
fn locked_caches_are_used_by_one_step_at_a_time() {
    let kitchen = Kitchen::new("");
    kitchen.build().succeeds();
    let images: Vec<String> = (0..4)
        .map(|number| {
            let name = format!("context/Dockerfile.{number}");
            let text = format!(
                "{}RUN --mount=type=cache,target=/c,id=one,sharing=locked echo begin >>/c/log; \
                 sleep 0.{number}; echo end >>/c/log; : {number}\n",
                super::BASE
            );
            fs::write(kitchen.path(&name), text).unwrap();
            let recipe = fs::read_to_string(kitchen.path("test.kdl")).unwrap();
            let recipe = recipe
                .replace("context/Dockerfile", &name)
                .replace("\"test\"", &format!("\"test{number}\""));
            let file = format!("test{number}.kdl");
            fs::write(kitchen.path(&file), recipe).unwrap();
            file
        })
        .collect();
    std::thread::scope(|scope| {
        for file in &images {
            scope.spawn(|| kitchen.run(&["build", file]).ends_with(0));
        }
    });
    kitchen.write("RUN --mount=type=cache,target=/c,id=one cat /c/log");
    let output = kitchen.output();
    assert_eq!(output, ["begin\nend"; 4].join("\n"));
}
