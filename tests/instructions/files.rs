//! `COPY` and `ADD`.

use std::os::unix::fs::symlink;

use super::Kitchen;
use crate::support::tool;

/// A context with files, directories and links, and a stage to copy from.
fn kitchen(instructions: &str) -> Kitchen {
    let kitchen = Kitchen::new(instructions);
    kitchen.file("dir/a.txt", "a", 0o640);
    kitchen.file("dir/sub/b.md", "b", 0o644);
    kitchen.file("dir/sub/run", "#!/bin/sh", 0o755);
    kitchen.file("one.txt", "1", 0o644);
    kitchen.file("two.txt", "2", 0o600);
    kitchen.file("arr[0].txt", "bracket", 0o644);
    let context = |name: &str| kitchen.path("context").join(name);
    symlink("a.txt", context("dir/link")).unwrap();
    symlink("dir/a.txt", context("link.txt")).unwrap();
    std::fs::create_dir(context("dir/empty")).unwrap();
    for directory in ["dir", "dir/sub", "dir/empty"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        std::fs::set_permissions(context(directory), mode).unwrap();
    }
    kitchen
}

#[test]
fn destinations_follow_dockers_rules() {
    let kitchen = kitchen(
        r#"
RUN mkdir /there && ln -s there /alias && chmod 711 /there && echo old >/there/old
COPY one.txt /file
COPY one.txt /dir/
COPY one.txt two.txt /several/
COPY *.txt /matched/
COPY arr[[]0].txt /bracket/
COPY one.txt /alias
COPY dir /content
COPY dir /there
COPY link.txt /followed
WORKDIR /work
COPY one.txt .
COPY dir sub
COPY none* /nothing/
COPY list /
RUN /list /file /dir /several /matched /bracket /there /content /followed /work; ls -d /nothing 2>&1 || true
"#,
    );
    insta::assert_snapshot!(kitchen.output(), @r#"
    d 755 0:0 /bracket
    f 644 0:0 /bracket/arr[0].txt bracket
    d 755 0:0 /content
    f 640 0:0 /content/a.txt a
    d 750 0:0 /content/empty
    l 777 0:0 /content/link a.txt
    d 750 0:0 /content/sub
    f 644 0:0 /content/sub/b.md b
    f 755 0:0 /content/sub/run #!/bin/sh
    d 755 0:0 /dir
    f 644 0:0 /dir/one.txt 1
    f 644 0:0 /file 1
    f 640 0:0 /followed a
    d 755 0:0 /matched
    f 644 0:0 /matched/arr[0].txt bracket
    f 640 0:0 /matched/link.txt a
    f 644 0:0 /matched/one.txt 1
    f 600 0:0 /matched/two.txt 2
    d 755 0:0 /several
    f 644 0:0 /several/one.txt 1
    f 600 0:0 /several/two.txt 2
    d 711 0:0 /there
    f 640 0:0 /there/a.txt a
    d 750 0:0 /there/empty
    l 777 0:0 /there/link a.txt
    f 644 0:0 /there/old old
    f 644 0:0 /there/one.txt 1
    d 750 0:0 /there/sub
    f 644 0:0 /there/sub/b.md b
    f 755 0:0 /there/sub/run #!/bin/sh
    d 755 0:0 /work
    f 644 0:0 /work/one.txt 1
    d 755 0:0 /work/sub
    f 640 0:0 /work/sub/a.txt a
    d 750 0:0 /work/sub/empty
    l 777 0:0 /work/sub/link a.txt
    d 750 0:0 /work/sub/sub
    f 644 0:0 /work/sub/sub/b.md b
    f 755 0:0 /work/sub/sub/run #!/bin/sh
    ls: /nothing: No such file or directory
    "#);
}

#[test]
fn owners_modes_and_selections() {
    let kitchen = kitchen(
        r#"
COPY --chown=node dir/a.txt /by-name/a
COPY --chown=1000 dir/a.txt /by-number/a
COPY --chown=other:sudo --chmod=4755 dir/a.txt /both/a
COPY --chmod=u=rwX,go= dir /symbolic
COPY --exclude=sub/*.md --exclude=empty dir /excluded
COPY --exclude=one.txt *.txt /without-one/
COPY --parents dir/./sub/*.md dir/a.txt one.txt /parents/
COPY --parents dir/**/run /deep/
COPY --link dir/a.txt /linked/
COPY --link --chown=node one.txt /linked/owned
COPY <<ONE <<"TWO" /documents/
one $HOME
ONE
two $HOME
TWO
COPY list /
RUN /list /by-name /by-number /both /symbolic /excluded /without-one /parents /deep /linked /documents
"#,
    );
    insta::assert_snapshot!(kitchen.output(), @r#"
    d 755 2000:27 /both
    f 4755 2000:27 /both/a a
    d 755 1000:1001 /by-name
    f 640 1000:1001 /by-name/a a
    d 755 1000:1000 /by-number
    f 640 1000:1000 /by-number/a a
    d 755 0:0 /deep
    d 755 0:0 /deep/dir
    d 755 0:0 /deep/dir/sub
    f 755 0:0 /deep/dir/sub/run #!/bin/sh
    d 755 0:0 /documents
    f 644 0:0 /documents/ONE one
    f 644 0:0 /documents/TWO two $HOME
    d 755 0:0 /excluded
    f 640 0:0 /excluded/a.txt a
    l 777 0:0 /excluded/link a.txt
    d 750 0:0 /excluded/sub
    f 755 0:0 /excluded/sub/run #!/bin/sh
    d 755 1000:1001 /linked
    f 640 0:0 /linked/a.txt a
    f 644 1000:1001 /linked/owned 1
    d 755 0:0 /parents
    d 755 0:0 /parents/dir
    f 640 0:0 /parents/dir/a.txt a
    f 644 0:0 /parents/one.txt 1
    d 755 0:0 /parents/sub
    f 644 0:0 /parents/sub/b.md b
    d 755 0:0 /symbolic
    f 600 0:0 /symbolic/a.txt a
    d 700 0:0 /symbolic/empty
    l 777 0:0 /symbolic/link a.txt
    d 700 0:0 /symbolic/sub
    f 600 0:0 /symbolic/sub/b.md b
    f 700 0:0 /symbolic/sub/run #!/bin/sh
    d 755 0:0 /without-one
    f 644 0:0 /without-one/arr[0].txt bracket
    f 640 0:0 /without-one/link.txt a
    f 600 0:0 /without-one/two.txt 2
    "#);
}

#[test]
fn other_stages_keep_owners_links_and_times() {
    let kitchen = kitchen("");
    kitchen.write(
        r#"
FROM base AS made
RUN mkdir -p /out/d && echo made >/out/d/file && ln -s d/file /out/link && ln -s /out/d /out/absolute \
    && ln -s /../../../etc/os-release /out/escape && chown -R node:node /out/d && chmod 2750 /out/d \
    && ln /out/d/file /out/d/hard && touch -d '2001-02-03 04:05:06' /out/d/file
FROM base
COPY --from=made /out /got
COPY --from=made /out/link /out/absolute/hard /out/escape /links/
COPY --from=made --chown=7:8 /out/d /chowned
COPY list /
RUN /list /got /links /chowned; stat -c '%h %Y' /got/d/file /links/link; stat -c %i /got/d/* | uniq | wc -l
"#,
    );
    insta::assert_snapshot!(kitchen.output(), @r#"
    d 755 7:8 /chowned
    f 644 7:8 /chowned/file made
    f 644 7:8 /chowned/hard made
    d 755 0:0 /got
    l 777 0:0 /got/absolute /out/d
    d 2750 1000:1001 /got/d
    f 644 1000:1001 /got/d/file made
    f 644 1000:1001 /got/d/hard made
    l 777 0:0 /got/escape /../../../etc/os-release
    l 777 0:0 /got/link d/file
    d 755 0:0 /links
    f 644 0:0 /links/escape ID=debian
    f 644 1000:1001 /links/hard made
    f 644 1000:1001 /links/link made
    2 981173106
    1 981173106
    1
    "#);
}

#[test]
fn what_is_not_copied_from_a_stage_does_not_count() {
    let kitchen = kitchen("");
    let with = |number: u32| {
        let text = format!(
            r#"
FROM base AS made
RUN mkdir -p -m 700 /real/d/.cache && ln -s real /out && echo {number} >/real/noise \
    && echo a >/real/d/a && echo b >/real/d/b.o && ln -s a /real/d/link && ln /real/d/a /real/d/hard \
    && echo {number} >/real/d/.cache/x && chown 1:2 /real/d/a && touch -d @981173106 /real/d /real/d/*
RUN mkdir -m 750 '/real/m[1]' && echo m >'/real/m[1]/m' && chown 1:2 '/real/m[1]' \
    && touch -d @981173106 '/real/m[1]'
FROM base
RUN --mount=type=bind,from=made,source=/out/m[1],target=/m \
    stat -c '%a %u:%g %Y' /m >/mounted && cat /m/m >>/mounted
COPY --from=made --exclude=.cache /out/d /got
COPY --from=made --parents --exclude=**/.cache /real/./d /real/d/* /parents/
COPY --from=made --exclude=.cache /out/?/[a-h]* /out/../real/d/lin? /each/
COPY list /
RUN /list /got /parents /each && stat -c %h /got/a /each/a && stat -c %Y /got/a && cat /mounted
"#
        );
        kitchen.write(&text);
    };
    with(1);
    insta::assert_snapshot!(kitchen.output(), @r#"
    d 755 0:0 /each
    f 644 1:2 /each/a a
    f 644 0:0 /each/b.o b
    f 644 1:2 /each/hard a
    f 644 1:2 /each/link a
    d 755 0:0 /got
    f 644 1:2 /got/a a
    f 644 0:0 /got/b.o b
    f 644 1:2 /got/hard a
    l 777 0:0 /got/link a
    d 755 0:0 /parents
    d 755 0:0 /parents/d
    f 644 1:2 /parents/d/a a
    f 644 0:0 /parents/d/b.o b
    f 644 1:2 /parents/d/hard a
    l 777 0:0 /parents/d/link a
    d 755 0:0 /parents/real
    d 755 0:0 /parents/real/d
    f 644 1:2 /parents/real/d/a a
    f 644 0:0 /parents/real/d/b.o b
    f 644 1:2 /parents/real/d/hard a
    l 777 0:0 /parents/real/d/link a
    2
    1
    981173106
    750 1:2 981173106
    m
    "#);
    with(2);
    let again = kitchen.build().succeeds();
    let started = again.started();
    let ran = |text: &str| started.iter().any(|name| name.contains(text));
    assert!(ran("read /out/d of made"), "{started:?}");
    assert!(ran("read /out/m[1] of made"), "{started:?}");
    assert!(
        !ran("COPY") && !ran("RUN /list") && !ran("RUN --mount"),
        "{started:?}"
    );
}

#[test]
fn a_recipe_copies_from_other_images() {
    let kitchen = kitchen(
        r#"
FROM base AS made
RUN mkdir -p /out/d && echo a >/out/d/a && echo b >/out/d/b.so && ln -s a /out/d/link && chown -R 1:2 /out/d
FROM base
COPY list /
"#,
    );
    let rest = "file \"/boot/vmlinuz\" { content \"no kernel\" }\n    \
                kernel \"/boot/vmlinuz\"\n    disk size=\"64M\"\n}\n";
    let with = |noise: &str| {
        let text = format!(
            r##"image "test" {{
    dockerfile "context/Dockerfile" service=#false
    copy "/out/d" "/stage" from="context/Dockerfile#made"
    copy "/out/d/*.so" "/sibling/" from="other" owner="node"
    copy "/etc/os-release" "/tag" from="@noisy"
    run "/list /stage /sibling /tag"
    {rest}
image "other" {{
    dockerfile "context/Dockerfile" service=#false {{ target "made" }}
    run "echo {noise} >/noise"
    {rest}"##
        );
        std::fs::write(kitchen.path("test.kdl"), text).unwrap();
    };
    with("1");
    kitchen
        .run(&["build", "test.kdl", "other", "--tag", "@noisy"])
        .ends_with(0);
    insta::assert_snapshot!(kitchen.output(), @r#"
    d 755 1000:1001 /sibling
    f 644 1000:1001 /sibling/b.so b
    d 755 0:0 /stage
    f 644 1:2 /stage/a a
    f 644 1:2 /stage/b.so b
    l 777 1:2 /stage/link a
    f 644 0:0 /tag ID=debian
    "#);
    with("2");
    let again = kitchen.build().succeeds();
    let started = again.started();
    let ran = |text: &str| started.iter().any(|name| name.contains(text));
    assert!(ran("read /out/d/*.so"), "{started:?}");
    assert!(!ran("copy to") && !ran("run /list"), "{started:?}");
}

#[test]
fn archives_are_unpacked_where_they_should_be() {
    let kitchen = kitchen(
        r#"
RUN mkdir -p /merged/dir && echo old >/merged/dir/old
ADD t.tar.gz /unpacked
ADD t.tar.gz one.txt /merged/
COPY t.tar.gz /copied.tgz
ADD --unpack=false t.tar.gz /kept/
COPY list /
RUN /list /unpacked /merged; tar -tzf /copied.tgz | wc -l; ls /kept
"#,
    );
    let mut tar = tool("tar", "tar");
    tar.args([
        "--create",
        "--gzip",
        "--owner=3",
        "--group=4",
        "--numeric-owner",
    ]);
    tar.args(["--file", "t.tar.gz", "dir"]);
    crate::support::Ran::of(tar.current_dir(kitchen.path("context"))).ends_with(0);
    insta::assert_snapshot!(kitchen.output(), @r#"
    d 755 0:0 /merged
    d 750 3:4 /merged/dir
    f 640 3:4 /merged/dir/a.txt a
    d 750 3:4 /merged/dir/empty
    l 777 3:4 /merged/dir/link a.txt
    f 644 0:0 /merged/dir/old old
    d 750 3:4 /merged/dir/sub
    f 644 3:4 /merged/dir/sub/b.md b
    f 755 3:4 /merged/dir/sub/run #!/bin/sh
    f 644 0:0 /merged/one.txt 1
    d 755 0:0 /unpacked
    d 750 3:4 /unpacked/dir
    f 640 3:4 /unpacked/dir/a.txt a
    d 750 3:4 /unpacked/dir/empty
    l 777 3:4 /unpacked/dir/link a.txt
    d 750 3:4 /unpacked/dir/sub
    f 644 3:4 /unpacked/dir/sub/b.md b
    f 755 3:4 /unpacked/dir/sub/run #!/bin/sh
    7
    t.tar.gz
    "#);
}

#[test]
fn what_cannot_be_put_is_said() {
    let kitchen = kitchen("");
    let cases = [
        ("COPY dir /etc/passwd", "/etc/passwd"),
        ("COPY one.txt /d/x\nCOPY two.txt /d", ""),
        (
            "RUN mkdir -p /d/one.txt\nCOPY one.txt /d/",
            "/d/one.txt is a directory",
        ),
        (
            "COPY one.txt /etc/passwd/x",
            "goes through something that is no directory",
        ),
        ("COPY --chown=nobody one.txt /x", "no user \"nobody\""),
        (
            "RUN ln -s /none /n\nCOPY one.txt /n/x",
            "a link to what is not there",
        ),
        (
            "COPY --from=base /none /x",
            "cannot copy /none: it does not exist",
        ),
    ];
    for (instructions, expected) in cases {
        if expected.is_empty() {
            kitchen.write(instructions);
            kitchen.build().succeeds();
            continue;
        }
        let said = kitchen.refused(instructions);
        assert!(said.contains(expected), "{instructions}:\n{said}");
    }
}

#[test]
fn a_changed_source_runs_what_follows_it() {
    let kitchen = kitchen("COPY one.txt /one\nRUN cat /one\nCOPY two.txt /two\nRUN cat /two");
    kitchen.build().succeeds();
    assert!(kitchen.build().succeeds().started().is_empty());
    kitchen.file("two.txt", "3", 0o600);
    let again = kitchen.build().succeeds();
    let started = again.started();
    let ran = |text: &str| started.iter().any(|name| name.contains(text));
    assert!(ran("COPY two.txt") && ran("RUN cat /two"), "{started:?}");
    assert!(!ran("COPY one.txt") && !ran("RUN cat /one"), "{started:?}");
}
