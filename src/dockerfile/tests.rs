//! What instructions become.

use std::time::Duration;

use super::*;
use crate::limits::Limits;
use crate::text::Problem;

fn parsed(text: &str) -> Dockerfile {
    parse("Dockerfile", text, &Limits::default()).unwrap_or_else(|problems| {
        let shown: Vec<_> = problems
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        panic!("{text}\n{}", shown.join("\n"))
    })
}

/// The last instruction of a stage that has it.
fn instruction(text: &str) -> Instruction {
    let file = parsed(&format!("FROM base\n{text}"));
    file.stages[0].instructions.last().unwrap().clone()
}

fn values(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.value.as_str()).collect()
}

fn run(text: &str) -> Run {
    match instruction(text).kind {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

/// The bytes of the source that a place covers.
fn source(span: &crate::text::Span) -> &str {
    let start = span.range.offset();
    &span.source.inner()[start..start + span.range.len()]
}

#[test]
fn stages() {
    let text = "ARG A=1 B\nFROM --platform=$X img:$A as One\nRUN x\n\nfrom one\nARG C=\"a b\"\n";
    let file = parsed(text);
    let args: Vec<_> = file
        .meta_args()
        .map(|arg| arg.name.value.as_str())
        .collect();
    assert_eq!(args, ["A", "B"]);
    let [one, two] = file.stages.as_slice() else {
        panic!("{}", file.stages.len())
    };
    assert_eq!(
        (one.base.value.as_str(), one.name()),
        ("img:$A", Some("One"))
    );
    assert_eq!(one.platform.as_ref().unwrap().value, "$X");
    assert_eq!(source(&one.span), "FROM --platform=$X img:$A as One");
    assert_eq!(two.name(), None);
    assert_eq!(file.stage_named("ONE", 1), Some(0));
    assert_eq!(file.stage_named("one", 0), None);
    let Kind::Arg(args) = &two.instructions[0].kind else {
        panic!()
    };
    assert_eq!(args[0].default.as_ref().unwrap().value, "\"a b\"");
}

#[test]
fn continued_lines_keep_their_places() {
    let text = "FROM base\nENV A=1 \\\n    # comment\n\n    B=\"two \\\nwords\" \\\n  C=3\n";
    let file = parsed(text);
    let Kind::Env(pairs) = &file.stages[0].instructions[0].kind else {
        panic!()
    };
    let values: Vec<_> = pairs.iter().map(|pair| pair.value.value.as_str()).collect();
    assert_eq!(values, ["1", "\"two words\"", "3"]);
    assert_eq!(source(&pairs[2].name.span), "C");
    assert_eq!(source(&pairs[1].value.span), "\"two \\\nwords\"");
    assert_eq!(file.empty_continuations.len(), 1);
    let run = instruction("RUN a \\\\\n");
    assert_eq!(run.text, "RUN a \\\\");
}

#[test]
fn commands() {
    assert_eq!(
        run("RUN a  b \\\n  c").script(),
        Script::Shell("a  b   c".into())
    );
    let exec = run(r#"RUN ["a", "b c", "\u00e9\""]"#);
    assert_eq!(
        exec.script(),
        Script::Exec(vec!["a".into(), "b c".into(), "é\"".into()])
    );
    assert_eq!(
        run("RUN [ -f x ]").script(),
        Script::Shell("[ -f x ]".into())
    );
    assert_eq!(run("RUN ['a']").script(), Script::Shell("['a']".into()));
    match instruction("ENTRYPOINT []").kind {
        Kind::Entrypoint(command) => assert_eq!(command.arguments(), Some(Vec::new())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn here_documents_are_scripts_or_files() {
    let script = run("RUN <<-EOF\n\techo $A\n\tEOF\n").script();
    assert_eq!(script, Script::Shell("echo $A\n".into()));
    let script = run("RUN <<run.py\n#!/usr/bin/python3\nx\nrun.py\n").script();
    let content = "#!/usr/bin/python3\nx\n".to_owned();
    assert_eq!(
        script,
        Script::File {
            name: "run.py".into(),
            content
        }
    );
    let script = run("RUN cat <<A 3<<\"B\" >x\na\nA\nb\nB\n").script();
    assert_eq!(
        script,
        Script::Shell("cat <<A 3<<\"B\" >x\na\nA\nb\nB".into())
    );
    // Without a name that stands alone it is the shell's.
    assert_eq!(
        run("RUN echo $((1<<2))").script(),
        Script::Shell("echo $((1<<2))".into())
    );
    assert!(run("RUN [\"cat\", \"<<EOF\"]").documents.is_empty());

    let Kind::Copy(copy) = instruction("COPY a <<x <<'y' /d/\n$A\nx\n$A\ny\n").kind else {
        panic!()
    };
    assert_eq!(values(&copy.files.sources), ["a"]);
    let set = |_: &str| Some("value".to_owned());
    let expander = Expander::new('\\', &set);
    let contents: Vec<_> = copy
        .files
        .documents
        .iter()
        .map(|document| expander.document(document).unwrap())
        .collect();
    assert_eq!(contents, ["value\n", "$A\n"]);
}

#[test]
fn pairs_in_both_forms() {
    let Kind::Env(pairs) = instruction("ENV A a  \"b\" c=d ").kind else {
        panic!()
    };
    assert!(pairs[0].is_legacy);
    assert_eq!(pairs[0].value.value, "a  \"b\" c=d");
    let Kind::Label(pairs) = instruction("LABEL a.b=1 \"c d\"=\"e=f\"").kind else {
        panic!()
    };
    assert_eq!(pairs[1].name.value, "\"c d\"");
    assert_eq!(pairs[1].value.value, "\"e=f\"");
}

fn resolved(flag: &str) -> MountKind {
    let run = run(&format!("RUN --mount={flag} true"));
    let plain = |word: &Word| -> Result<String, Problem> { Ok(word.value.clone()) };
    run.mounts[0].resolve(&plain).unwrap()
}

#[test]
fn mounts() {
    let bind = BindMount {
        from: Some("go".into()),
        source: "/usr".into(),
        target: "/x".into(),
        writable: false,
    };
    assert_eq!(
        resolved("from=go,src=/usr,dst=/x"),
        MountKind::Bind(bind.clone())
    );
    let written = resolved("type=bind,from=go,source=/usr,destination=/x,rw");
    assert_eq!(
        written,
        MountKind::Bind(BindMount {
            writable: true,
            ..bind
        })
    );
    let cache = CacheMount {
        id: "/c/d".into(),
        target: "/c//./d/".into(),
        sharing: Sharing::Locked,
        from: None,
        source: "/".into(),
        owner: Owner { uid: 3, gid: 0 },
        mode: 0o755,
        writable: true,
    };
    assert_eq!(
        resolved("type=cache,target=/c//./d/,sharing=locked,uid=3"),
        MountKind::Cache(cache)
    );
    let tmpfs = |size| TmpfsMount {
        target: "/t".into(),
        size,
    };
    assert_eq!(
        resolved("type=tmpfs,target=/t"),
        MountKind::Tmpfs(tmpfs(None))
    );
    let sized = MountKind::Tmpfs(tmpfs(Some(64 << 20)));
    assert_eq!(resolved("type=tmpfs,target=/t,size=64m"), sized);
    let MountKind::Secret(secret) = resolved("type=secret,id=a/b") else {
        panic!()
    };
    assert_eq!(
        (secret.id.as_str(), secret.target.as_deref()),
        ("a/b", Some("/run/secrets/b"))
    );
    assert_eq!((secret.required, secret.mode), (false, 0o400));
    let MountKind::Secret(secret) = resolved("type=secret,id=a,env=A,required") else {
        panic!()
    };
    assert_eq!((secret.target, secret.env.as_deref()), (None, Some("A")));
    assert!(secret.required);
    let MountKind::Secret(secret) = resolved("type=secret,target=/etc/key") else {
        panic!()
    };
    assert_eq!(secret.id, "key");
    let MountKind::Ssh(ssh) = resolved("type=ssh,mode=0640") else {
        panic!()
    };
    assert_eq!(
        (ssh.id.as_str(), ssh.mode, ssh.target),
        ("default", 0o640, None)
    );
}

#[test]
fn values_of_mounts_can_be_variables() {
    let run = run("RUN --mount=type=$T,target=/c,sharing=$S true");
    let lookup = |name: &str| match name {
        "T" => Some("cache".to_owned()),
        "S" => Some("private".to_owned()),
        _ => None,
    };
    let expander = Expander::new('\\', &lookup);
    let kind = run.mounts[0].resolve(&|word| expander.word(word)).unwrap();
    assert!(matches!(kind, MountKind::Cache(cache) if cache.sharing == Sharing::Private));
    let empty = Expander::new('\\', &|_| None);
    let error = run.mounts[0].resolve(&|word| empty.word(word)).unwrap_err();
    insta::assert_snapshot!(error, @r#"unknown type of mount """#);
}

#[test]
fn health_checks() {
    let text = "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=0 --retries=0 CMD a";
    let Kind::Healthcheck(check) = instruction(text).kind else {
        panic!()
    };
    assert_eq!(check.interval, Some(Duration::from_secs(90)));
    assert_eq!(check.timeout, Some(Duration::from_millis(1500)));
    assert_eq!((check.start_period, check.retries), (None, None));
}

#[test]
fn triggers() {
    let Kind::Onbuild(onbuild) = instruction("ONBUILD RUN <<EOF\nx\nEOF\n").kind else {
        panic!()
    };
    assert_eq!(onbuild.trigger, "RUN <<EOF\nx\nEOF");
    let again = parse_trigger("trigger", &onbuild.trigger).unwrap();
    assert_eq!(again.kind, onbuild.instruction.kind);
    assert!(parse_trigger("trigger", "FROM x").is_err());
    assert!(parse_trigger("trigger", "RUN a\nRUN b").is_err());
    assert!(parse_trigger("trigger", "").is_err());
}

#[test]
fn directives() {
    let file = parsed("#syntax = docker/dockerfile:1\n# escape=`\n#check=skip=all\nFROM a\n");
    assert_eq!(file.directives.escape, '`');
    assert_eq!(file.directives.syntax.unwrap().value, "docker/dockerfile:1");
    assert_eq!(source(&file.directives.check.unwrap().span), "skip=all");
    // A comment, an empty line or an instruction ends them.
    for text in [
        "# x\n# escape=`\n",
        "\n# escape=`\n",
        "# unknown=x\n# escape=`\n",
    ] {
        assert_eq!(
            parsed(&format!("{text}FROM a\n")).directives.escape,
            '\\',
            "{text}"
        );
    }
}

#[test]
fn flags_end_with_two_dashes() {
    assert_eq!(
        run("RUN -- --version").script(),
        Script::Shell("--version".into())
    );
    let Kind::Copy(copy) = instruction("COPY --link=false --chown=\"a b\" -- --x /y").kind else {
        panic!()
    };
    assert!(!copy.files.link);
    assert_eq!(copy.files.chown.unwrap().value, "a b");
    assert_eq!(values(&copy.files.sources), ["--x"]);
}
