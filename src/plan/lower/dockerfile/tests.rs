//! Plans of Dockerfiles.

mod world;

use crate::plan::Plan;

use world::{Everything, loaded, lowered, planned, steps};

#[test]
fn one_stage() {
    insta::assert_snapshot!(lowered(
        r#"FROM debian:12
        WORKDIR app
        COPY . .
        RUN make
        RUN ["make", "install"]
        USER 1000:1000
        RUN id
        "#
    ), @r#"
    0 web: fetch layer 1 of 1 of debian:12 []
    1 web: layer 1 of 1 of debian:12 [blob=0]
    2 web: WORKDIR app [layer=1]
        workdir {"path":"/base/app"}
    3 web: local . []
    4 web: COPY . . [layer=1 layer=2 source=3]
        add {"destination":"/base/app/","sources":[{"from":{"files":"source"},"kind":"path","path":".","unpack":false}]}
    5 web: RUN make [layer=1 layer=2 layer=4]
        exec {"argv":["/bin/sh","-c","make"],"workdir":"/base/app"}
    6 web: RUN ["make", "install"] [layer=1 layer=2 layer=4 layer=5]
        exec {"argv":["make","install"],"workdir":"/base/app"}
    7 web: RUN id [layer=1 layer=2 layer=4 layer=5 layer=6]
        exec {"argv":["/bin/sh","-c","id"],"user":"1000:1000","workdir":"/base/app"}
    8 web: env BASE PATH [layer=1 layer=2 layer=4 layer=5 layer=6 layer=7]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "#);
}

#[test]
fn stages_that_nothing_needs_are_not_lowered_and_others_once() {
    let text = "FROM debian:12 AS base
        RUN base
        FROM base AS one
        RUN one
        FROM base AS unused
        RUN unused
        FROM base AS two
        COPY --from=one /a /b
        RUN two
        FROM two
        COPY --from=1 /c /d/
        COPY --from=busybox:1 /bin/busybox /bin/
        COPY --from=two /e /f
        ";
    insta::assert_snapshot!(lowered(text), @r#"
    0 web: fetch layer 1 of 1 of debian:12 []
    1 web: layer 1 of 1 of debian:12 [blob=0]
    2 web: base: RUN base [layer=1]
        exec {"argv":["/bin/sh","-c","base"],"workdir":"/base"}
    3 web: one: RUN one [layer=1 layer=2]
        exec {"argv":["/bin/sh","-c","one"],"workdir":"/base"}
    4 web: two: read /a of one [source=1 source=2 source=3]
        add {"destination":"/","keep-paths":true,"link":true,"sources":[{"from":{"layers":"source"},"kind":"path","path":"/a","unpack":false}]}
    5 web: two: COPY --from=one /a /b [layer=1 layer=2 source=4]
        add {"destination":"/b","sources":[{"from":{"layers":"source"},"kind":"path","path":"/a","unpack":false}]}
    6 web: two: RUN two [layer=1 layer=2 layer=5]
        exec {"argv":["/bin/sh","-c","two"],"workdir":"/base"}
    7 web: stage 4: read /c of 1 [source=1 source=2 source=3]
        add {"destination":"/","keep-paths":true,"link":true,"sources":[{"from":{"layers":"source"},"kind":"path","path":"/c","unpack":false}]}
    8 web: stage 4: COPY --from=1 /c /d/ [layer=1 layer=2 layer=5 layer=6 source=7]
        add {"destination":"/d/","sources":[{"from":{"layers":"source"},"kind":"path","path":"/c","unpack":false}]}
    9 web: layer 1 of 1 of busybox:1 [blob=0]
    10 web: stage 4: read /bin/busybox of busybox:1 [source=9]
        add {"destination":"/","keep-paths":true,"link":true,"sources":[{"from":{"layers":"source"},"kind":"path","path":"/bin/busybox","unpack":false}]}
    11 web: stage 4: COPY --from=busybox:1 /bin/busybox /bin/ [layer=1 layer=2 layer=5 layer=6 layer=8 source=10]
        add {"destination":"/bin/","sources":[{"from":{"layers":"source"},"kind":"path","path":"/bin/busybox","unpack":false}]}
    12 web: stage 4: read /e of two [source=1 source=2 source=5 source=6]
        add {"destination":"/","keep-paths":true,"link":true,"sources":[{"from":{"layers":"source"},"kind":"path","path":"/e","unpack":false}]}
    13 web: stage 4: COPY --from=two /e /f [layer=1 layer=2 layer=5 layer=6 layer=8 layer=11 source=12]
        add {"destination":"/f","sources":[{"from":{"layers":"source"},"kind":"path","path":"/e","unpack":false}]}
    14 web: env BASE PATH [layer=1 layer=2 layer=5 layer=6 layer=8 layer=11 layer=13]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "#);
    let plan = planned(text, Some("one"), &[]).unwrap();
    assert_eq!(plan.image_name, "one");
    insta::assert_snapshot!(steps(&plan), @r#"
    0 one: fetch layer 1 of 1 of debian:12 []
    1 one: layer 1 of 1 of debian:12 [blob=0]
    2 one: base: RUN base [layer=1]
        exec {"argv":["/bin/sh","-c","base"],"workdir":"/base"}
    3 one: RUN one [layer=1 layer=2]
        exec {"argv":["/bin/sh","-c","one"],"workdir":"/base"}
    4 one: env BASE PATH [layer=1 layer=2 layer=3]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "#);
}

#[test]
fn arguments_hold_where_they_are_declared() {
    let text = "ARG VERSION=12
        ARG NAME=debian:$VERSION
        FROM $NAME AS first
        RUN nothing is declared
        ARG VERSION
        ARG OWN=$VERSION-own
        RUN both are declared
        ENV VERSION=from-env OTHER=$VERSION
        RUN the later one holds
        FROM first
        RUN arguments are inherited
        ARG TARGETARCH
        ARG NONE
        RUN the architecture is declared
        ";
    insta::assert_snapshot!(lowered(text), @r#"
    0 web: fetch layer 1 of 1 of debian:12 []
    1 web: layer 1 of 1 of debian:12 [blob=0]
    2 web: first: RUN nothing is declared [layer=1]
        exec {"argv":["/bin/sh","-c","nothing is declared"],"workdir":"/base"}
    3 web: first: RUN both are declared [layer=1 layer=2]
        exec {"argv":["/bin/sh","-c","both are declared"],"env":{"OWN":"12-own","VERSION":"12"},"workdir":"/base"}
    4 web: first: RUN the later one holds [layer=1 layer=2 layer=3]
        exec {"argv":["/bin/sh","-c","the later one holds"],"env":{"OTHER":"12","OWN":"12-own","VERSION":"from-env"},"workdir":"/base"}
    5 web: stage 1: RUN arguments are inherited [layer=1 layer=2 layer=3 layer=4]
        exec {"argv":["/bin/sh","-c","arguments are inherited"],"env":{"OTHER":"12","OWN":"12-own","VERSION":"from-env"},"workdir":"/base"}
    6 web: stage 1: RUN the architecture is declared [layer=1 layer=2 layer=3 layer=4 layer=5]
        exec {"argv":["/bin/sh","-c","the architecture is declared"],"env":{"OTHER":"12","OWN":"12-own","TARGETARCH":"amd64","VERSION":"from-env"},"workdir":"/base"}
    7 web: env BASE OTHER PATH VERSION [layer=1 layer=2 layer=3 layer=4 layer=5 layer=6]
        env {"variables":{"BASE":"1","OTHER":"12","PATH":"/base/bin:/bin","VERSION":"from-env"}}
    "#);
    let given = [("VERSION", "13"), ("OWN", "given")];
    let plan = planned(text, Some("first"), &given).unwrap();
    insta::assert_snapshot!(steps(&plan), @r#"
    0 first: fetch layer 1 of 1 of debian:13 []
    1 first: layer 1 of 1 of debian:13 [blob=0]
    2 first: RUN nothing is declared [layer=1]
        exec {"argv":["/bin/sh","-c","nothing is declared"],"workdir":"/base"}
    3 first: RUN both are declared [layer=1 layer=2]
        exec {"argv":["/bin/sh","-c","both are declared"],"env":{"OWN":"given","VERSION":"13"},"workdir":"/base"}
    4 first: RUN the later one holds [layer=1 layer=2 layer=3]
        exec {"argv":["/bin/sh","-c","the later one holds"],"env":{"OTHER":"13","OWN":"given","VERSION":"from-env"},"workdir":"/base"}
    5 first: env BASE OTHER PATH VERSION [layer=1 layer=2 layer=3 layer=4]
        env {"variables":{"BASE":"1","OTHER":"13","PATH":"/base/bin:/bin","VERSION":"from-env"}}
    "#);
}

#[test]
fn an_argument_counts_from_its_declaration() {
    let text = "FROM debian:12\nRUN one\nARG LATER\nRUN two";
    let with = |value: &str| planned(text, None, &[("LATER", value)]).unwrap();
    let (one, two) = (with("1"), with("2"));
    let params = |plan: &Plan, script: &str| {
        let nodes = plan.graph.nodes().iter();
        let mut nodes = nodes.filter(|node| node.name.ends_with(script));
        nodes.next().unwrap().params.clone()
    };
    assert_eq!(params(&one, "RUN one"), params(&two, "RUN one"));
    assert_ne!(params(&one, "RUN two"), params(&two, "RUN two"));
}

#[test]
fn words_expand_with_the_environment_of_the_base() {
    insta::assert_snapshot!(lowered(
        "FROM debian:12
        ENV PATH=/opt/bin:$PATH WHERE=/srv/${BASE:+set}
        WORKDIR $WHERE
        COPY --chown=$BASE:${GROUP:-staff} --chmod=u=rwX a${BASE}.c *.h ./
        LABEL where=$WHERE
        "
    ), @r#"
    0 web: fetch layer 1 of 1 of debian:12 []
    1 web: layer 1 of 1 of debian:12 [blob=0]
    2 web: WORKDIR $WHERE [layer=1]
        workdir {"path":"/srv/set"}
    3 web: local . []
    4 web: COPY --chown=$BASE:${GROUP:-staff} --chmod=u=rw… [layer=1 layer=2 source=3]
        add {"destination":"/srv/set/","mode":"u=rwX","owner":"1:staff","sources":[{"from":{"files":"source"},"kind":"path","path":"a1.c","unpack":false},{"from":{"files":"source"},"kind":"path","path":"*.h","unpack":false}]}
    5 web: env BASE PATH WHERE [layer=1 layer=2 layer=4]
        env {"variables":{"BASE":"1","PATH":"/opt/bin:/base/bin:/bin","WHERE":"/srv/set"}}
    "#);
}

#[test]
fn copies() {
    insta::assert_snapshot!(lowered(
        r#"FROM scratch
        COPY --link --parents --exclude=*.o src/./a b /to/
        COPY <<one.txt <<"two.txt" /docs/
        $HOME
one.txt
        $HOME
two.txt
        ADD a.tar.gz /
        ADD --unpack=false a.tar.gz /
        ADD https://example.org/tool /bin/
        ADD --checksum=sha256:1111111111111111111111111111111111111111111111111111111111111111 \
            --unpack=true https://example.org/tool.tar.gz /opt
        ADD https://example.org/code.git#1111111111111111111111111111111111111111:docs /code
        "#
    ), @r#"
    0 web: local . []
    1 web: COPY --link --parents --exclude=*.o src/./a b /… [source=0]
        add {"destination":"/to/","exclude":["*.o"],"link":true,"parents":true,"sources":[{"from":{"files":"source"},"kind":"path","path":"src/./a","unpack":false},{"from":{"files":"source"},"kind":"path","path":"b","unpack":false}]}
    2 web: COPY <<one.txt <<"two.txt" /docs/ [layer=1]
        add {"destination":"/docs/","sources":[{"content":"        \n","kind":"content","name":"one.txt"},{"content":"        $HOME\n","kind":"content","name":"two.txt"}]}
    3 web: local . []
    4 web: ADD a.tar.gz / [layer=1 layer=2 source=3]
        add {"destination":"/","sources":[{"from":{"files":"source"},"kind":"path","path":"a.tar.gz","unpack":true}]}
    5 web: ADD --unpack=false a.tar.gz / [layer=1 layer=2 layer=4 source=3]
        add {"destination":"/","sources":[{"from":{"files":"source"},"kind":"path","path":"a.tar.gz","unpack":false}]}
    6 web: fetch tool []
    7 web: ADD https://example.org/tool /bin/ [layer=1 layer=2 layer=4 layer=5 source-0=6]
        add {"destination":"/bin/","sources":[{"input":"source-0","kind":"fetched","name":"tool","unpack":false}]}
    8 web: fetch tool.tar.gz []
    9 web: ADD --checksum=sha256:1111111111111111111111111… [layer=1 layer=2 layer=4 layer=5 layer=7 source-0=8]
        add {"destination":"/opt","sources":[{"input":"source-0","kind":"fetched","name":"tool.tar.gz","unpack":true}]}
    10 web: git https://example.org/code.git []
        git {"commit":"1111111111111111111111111111111111111111","directory":"docs","repository":"https://example.org/code.git"}
    11 web: ADD https://example.org/code.git#11111111111111… [layer=1 layer=2 layer=4 layer=5 layer=7 layer=9 source-0=10]
        add {"destination":"/code","sources":[{"from":{"files":"source-0"},"kind":"path","path":"/","unpack":false}]}
    "#);
}

#[test]
fn linked_files_are_keyed_without_the_tree_and_references_with_their_commit() {
    insta::assert_snapshot!(lowered(
        "FROM debian:12
        COPY --link --chown=1:2 a /to/
        COPY --link --chown=node b /to/
        ADD --checksum=ccccccc https://example.org/code.git#main /c
        "
    ), @r#"
    0 web: fetch layer 1 of 1 of debian:12 []
    1 web: layer 1 of 1 of debian:12 [blob=0]
    2 web: local . []
    3 web: COPY --link --chown=1:2 a /to/ [source=2]
        add {"destination":"/to/","link":true,"owner":"1:2","sources":[{"from":{"files":"source"},"kind":"path","path":"a","unpack":false}]}
    4 web: local . []
    5 web: COPY --link --chown=node b /to/ [layer=1 layer=3 source=4]
        add {"destination":"/to/","link":true,"owner":"node","sources":[{"from":{"files":"source"},"kind":"path","path":"b","unpack":false}]}
    6 web: git https://example.org/code.git []
        git {"commit":"cccccccccccccccccccccccccccccccccccccccc","repository":"https://example.org/code.git"}
    7 web: ADD --checksum=ccccccc https://example.org/code… [layer=1 layer=3 layer=5 source-0=6]
        add {"destination":"/c","sources":[{"from":{"files":"source-0"},"kind":"path","path":"/","unpack":false}]}
    8 web: env BASE PATH [layer=1 layer=3 layer=5 layer=7]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "#);
    for (wrong, said) in [
        (
            "ADD https://example.org/code.git#none /c",
            "no branch or tag",
        ),
        (
            "ADD --checksum=1111111 https://example.org/code.git#main /c",
            "main of https://example.org/code.git is the commit ccccccc",
        ),
        (
            "ADD --checksum=main https://example.org/code.git#main /c",
            "is not a commit",
        ),
        (
            "ADD --checksum=ccccccc https://example.org/code.git#main a /c/",
            "--checksum needs exactly one source",
        ),
    ] {
        let error = planned(&format!("FROM debian:12\n{wrong}"), None, &[]).unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn an_image_knows_the_container_that_it_was() {
    let text = "FROM debian:12 AS base
        ENV A=1
        RUN one
        FROM base
        ARG B
        WORKDIR /w
        USER node
        CMD [\"serve\"]";
    let plan = planned(text, None, &[]).unwrap();
    let container = plan.template.container.unwrap();
    let history = container.history.iter();
    let lines = history.map(|entry| format!("{} {}", entry.empty_layer, entry.created_by));
    let expected = [
        "false layer 1",
        "true ENV A=1",
        "false RUN one",
        "false WORKDIR /w",
        "true USER node",
        "true CMD [\"serve\"]",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    assert_eq!(container.layers, 3);
    assert_eq!(container.config.cmd, ["serve"]);
    assert_eq!(container.config.user.as_deref(), Some("node"));
}

#[test]
fn mounts_and_documents() {
    insta::assert_snapshot!(lowered(
        r##"# syntax=docker/dockerfile:1
        FROM debian:12 AS build
        SHELL ["/bin/bash", "-c"]
        FROM build
        WORKDIR /w
        RUN --mount=type=bind,source=src,target=in --mount=from=build,target=/b,rw \
            --mount=type=cache,target=/var/cache/apt,sharing=locked \
            --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=key,required \
            --mount=type=ssh --network=none do it
        RUN <<EOF
one
two
EOF
        RUN <<EOF
#!/usr/bin/env python3
print(1)
EOF
        RUN cat <<EOF > /x
text
EOF
        "##
    ), @r##"
    0 web: fetch layer 1 of 1 of debian:12 []
    1 web: layer 1 of 1 of debian:12 [blob=0]
    2 web: stage 1: WORKDIR /w [layer=1]
        workdir {"path":"/w"}
    3 web: local . []
    4 web: stage 1: RUN --mount=type=bind,source=src,target=in --mo… [layer=1 layer=2 mount-0=3 mount-1=1]
        exec {"argv":["/bin/bash","-c","do it"],"mounts":[{"from":{"files":"mount-0"},"source":"/src","target":"/w/in","type":"bind","writable":false},{"from":{"layers":"mount-1"},"source":"/","target":"/b","type":"bind","writable":true},{"gid":0,"id":"/var/cache/apt","mode":493,"sharing":"locked","target":"/var/cache/apt","type":"cache","uid":0,"writable":true},{"size":1048576,"target":"/t","type":"tmpfs"},{"gid":0,"id":"key","mode":256,"required":true,"target":"/run/secrets/key","type":"secret","uid":0},{"gid":0,"id":"default","mode":384,"required":false,"target":"/run/buildkit/ssh_agent.5","type":"ssh","uid":0}],"network":"none","workdir":"/w"}
    5 web: stage 1: RUN <<EOF [layer=1 layer=2 layer=4]
        exec {"argv":["/bin/bash","-c","one\ntwo\n"],"workdir":"/w"}
    6 web: stage 1: RUN <<EOF [layer=1 layer=2 layer=4 layer=5]
        exec {"argv":["/dev/pipes/EOF"],"script":{"content":"#!/usr/bin/env python3\nprint(1)\n","name":"EOF"},"workdir":"/w"}
    7 web: stage 1: RUN cat <<EOF > /x [layer=1 layer=2 layer=4 layer=5 layer=6]
        exec {"argv":["/bin/bash","-c","cat <<EOF > /x\ntext\nEOF"],"workdir":"/w"}
    8 web: env BASE PATH [layer=1 layer=2 layer=4 layer=5 layer=6 layer=7]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "##);
}

#[test]
fn bases_have_instructions_for_later() {
    insta::assert_snapshot!(lowered(
        "FROM example.org/onbuild:1 AS base
        ONBUILD RUN from the stage
        FROM base AS child
        RUN child
        FROM child
        "
    ), @r#"
    0 web: fetch layer 1 of 1 of example.org/onbuild:1 []
    1 web: layer 1 of 1 of example.org/onbuild:1 [blob=0]
    2 web: base: RUN echo $FROM_BASE [layer=1]
        exec {"argv":["/bin/sh","-c","echo $FROM_BASE"],"env":{"FROM_BASE":"yes"},"workdir":"/base"}
    3 web: child: RUN from the stage [layer=1 layer=2]
        exec {"argv":["/bin/sh","-c","from the stage"],"env":{"FROM_BASE":"yes"},"workdir":"/base"}
    4 web: child: RUN child [layer=1 layer=2 layer=3]
        exec {"argv":["/bin/sh","-c","child"],"env":{"FROM_BASE":"yes"},"workdir":"/base"}
    5 web: env BASE PATH [layer=1 layer=2 layer=3 layer=4]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "#);
}

#[test]
fn platforms() {
    let text = "FROM --platform=$BUILDPLATFORM golang AS build
        ARG TARGETPLATFORM
        RUN build for $TARGETPLATFORM
        FROM --platform=linux/arm64 debian AS other
        COPY --from=build /a /b
        FROM debian
        COPY --from=other /c /d
        ";
    insta::assert_snapshot!(lowered(text), @r#"
    0 web: fetch layer 1 of 1 of debian []
    1 web: layer 1 of 1 of debian [blob=0]
    2 web: fetch layer 1 of 1 of debian []
    3 web: layer 1 of 1 of debian [blob=2]
    4 web: layer 1 of 1 of golang [blob=0]
    5 web: build: RUN build for $TARGETPLATFORM [layer=4]
        exec {"argv":["/bin/sh","-c","build for $TARGETPLATFORM"],"env":{"TARGETPLATFORM":"linux/amd64"},"workdir":"/base"}
    6 web: other: read /a of build [source=4 source=5]
        add {"destination":"/","keep-paths":true,"link":true,"sources":[{"from":{"layers":"source"},"kind":"path","path":"/a","unpack":false}]}
    7 web: other: COPY --from=build /a /b [layer=3 source=6]
        add {"destination":"/b","sources":[{"from":{"layers":"source"},"kind":"path","path":"/a","unpack":false}]}
    8 web: stage 2: read /c of other [source=3 source=7]
        add {"destination":"/","keep-paths":true,"link":true,"sources":[{"from":{"layers":"source"},"kind":"path","path":"/c","unpack":false}]}
    9 web: stage 2: COPY --from=other /c /d [layer=1 source=8]
        add {"destination":"/d","sources":[{"from":{"layers":"source"},"kind":"path","path":"/c","unpack":false}]}
    10 web: env BASE PATH [layer=1 layer=9]
        env {"variables":{"BASE":"1","PATH":"/base/bin:/bin"}}
    "#);
}

/// What an image runs, as the config of a container image has it.
fn config(text: &str) -> String {
    let image = &loaded(text, None, &[]).images[0].clone();
    let mut lowering = super::super::Lowering::new(&Everything, "x86_64");
    let lowered = lowering.lowered(image).unwrap();
    let ports = lowered.settings.ports.iter().map(|port| port.guest);
    let ports: Vec<u16> = ports.collect();
    let config = serde_json::to_string_pretty(&lowered.container).unwrap();
    format!("{config}\nports {ports:?}\nlogins {:?}", lowered.env)
}

#[test]
fn configs() {
    insta::assert_snapshot!(config(
        r#"FROM debian:12 AS base
        CMD ["of", "the", "base"]
        EXPOSE 80 443/tcp
        FROM base
        ENV LANG=C.UTF-8 LANG2="a b" PORT=90
        ENTRYPOINT /start.sh --now
        EXPOSE $PORT 53/udp 8000-8001
        VOLUME /data /more
        STOPSIGNAL SIGQUIT
        HEALTHCHECK --interval=5s --retries=2 CMD ["curl", "localhost"]
        LABEL a=1 b="2 3"
        USER web:www
        WORKDIR /srv
        MAINTAINER me
        ONBUILD RUN later
        "#
    ));
    // One of the stage itself stays.
    insta::assert_snapshot!(config(
        "FROM debian:12
        CMD own
        ENTRYPOINT [\"/e\"]
        HEALTHCHECK NONE
        "
    ));
}

fn mistake(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> String {
    let error = planned(text, target, args).unwrap_err();
    let theme = miette::GraphicalTheme::unicode_nocolor();
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(90);
    let mut shown = String::new();
    let mistake = error.diagnostic().expect("a mistake of the Dockerfile");
    handler.render_report(&mut shown, mistake).unwrap();
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[test]
fn mistakes() {
    let given = &[("NODE", "22")];
    let shown = [
        mistake("FROM nothing:1", None, &[]),
        mistake("ARG X\nFROM $X", None, &[]),
        mistake(
            "FROM debian AS build\nFROM debian AS test",
            Some("biuld"),
            &[],
        ),
        mistake("ARG NODES=1\nFROM debian", None, given),
        mistake("FROM --platform=windows/amd64 debian", None, &[]),
        mistake("FROM --platform=linux/arm64 debian\nRUN true", None, &[]),
        mistake("FROM --platform=linux/arm64 debian", None, &[]),
        mistake(
            "FROM debian AS a\nCOPY --from=b /x /y\nFROM debian AS b",
            Some("a"),
            &[],
        ),
        mistake(
            "FROM debian\nCOPY here missing /there/\nCOPY a b /c\nEXPOSE web",
            None,
            &[],
        ),
        mistake(
            "FROM debian\nRUN true\nWORKDIR ${X:?is needed}\nUSER \"\"",
            None,
            &[],
        ),
        mistake("FROM ./recipe.kdl", None, &[]),
        mistake(
            "FROM debian\nONBUILD ADD https://me:word@host/a.git /a",
            None,
            &[],
        ),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}
