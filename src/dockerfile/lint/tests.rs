//! What each check finds.

use super::*;
use crate::dockerfile::parse;
use crate::limits::Limits;

fn linted(text: &str, ignore: &str) -> Linted {
    let file = parse("Dockerfile", text, &Limits::default()).unwrap();
    let facts = Facts {
        ignore: Some(&Ignore::parse(".dockerignore", ignore).unwrap()),
        build_args: &BTreeMap::from([("GIVEN".to_owned(), "arm".to_owned())]),
        platform: "linux/amd64",
        platform_of: &|name| (name == "@arm").then(|| "linux/arm64".to_owned()),
    };
    lint(&file, &facts).unwrap()
}

fn found(text: &str) -> String {
    let findings = linted(text, "secret\n").findings;
    let shown = findings.iter().map(|finding| {
        let at = finding.span.range.offset();
        let line = text[..at].matches('\n').count() + 1;
        format!("{line}: {finding}")
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// Every rule finds something here, and nothing in its right form.
#[test]
fn every_rule() {
    let wrong = "\
# check=experimental=all
ARG BASE
FROM debian AS Build
FROM debian as other
RUN a \\

  b
Run c
FROM debian AS other
FROM debian AS scratch
CMD one
CMD [\"two\"]
MAINTAINER me
FROM debian:$TYPO AS four
WORKDIR app
COPY $foo /x
ENV A b
ARG API_TOKEN
FROM busybox:$BASE AS five
FROM --platform=linux/arm64 debian AS six
FROM --platform=$TARGETPLATFORM debian AS seven
COPY secret/file /x
EXPOSE 127.0.0.1:80:80 53/UDP
# a wrong comment
ARG VERSION
FROM @arm AS eight
";
    insta::assert_snapshot!(found(wrong), @r#"
    3: the name Build of a stage has capitals [StageNameCasing]
    4: FROM and as differ in case [FromAsCasing]
    6: an empty line continues an instruction [NoEmptyContinuation]
    8: most instructions are in capitals, Run is not [ConsistentInstructionCasing]
    9: two stages have the name other [DuplicateStageName]
    10: the name scratch of a stage is reserved [ReservedStageName]
    11: CMD is given to a shell [JSONArgsRecommended]
    11: this CMD is overridden further down [MultipleInstructionsDisallowed]
    13: MAINTAINER is deprecated [MaintainerDeprecated]
    14: the variable TYPO is not declared before FROM [UndefinedArgInFrom]
    14: the defaults make "debian:$TYPO" no name of an image [InvalidDefaultArgInFrom]
    15: the working directory app is relative [WorkdirRelativePath]
    16: the variable foo is not declared [UndefinedVar]
    17: ENV A has no = [LegacyKeyValueFormat]
    18: ARG API_TOKEN looks like a secret [SecretsUsedInArgOrEnv]
    19: the defaults make "busybox:$BASE" no name of an image [InvalidDefaultArgInFrom]
    20: FROM is always for the platform linux/arm64 [FromPlatformFlagConstDisallowed]
    21: $TARGETPLATFORM is the platform without --platform, too [RedundantTargetPlatform]
    22: COPY of secret/file, which .dockerignore leaves out [CopyIgnoredFile]
    23: EXPOSE 127.0.0.1:80:80 has an address or a port of the host [ExposeInvalidFormat]
    23: the protocol UDP has capitals [ExposeProtoCasing]
    25: the comment for ARG should read: # VERSION … [InvalidDefinitionDescription]
    26: the image @arm is for linux/arm64, this build for linux/amd64 [InvalidBaseImagePlatform]
    "#);
    for rule in RULES {
        assert!(
            found(wrong).contains(&format!("[{}]", rule.name)),
            "{}",
            rule.name
        );
    }
}

#[test]
fn right_forms() {
    let right = "\
# syntax=docker/dockerfile:1
# check=experimental=all
# BASE is the tag
ARG BASE=12
FROM --platform=$BUILDPLATFORM debian:${BASE} AS build
# VERSION is what is built
ARG VERSION=1 PUBLIC_KEY
ENV PATH=/opt:$PATH NAME=${VERSION} SECRET_FILE=x
WORKDIR /src
WORKDIR relative
COPY $NAME other /x
RUN a \\
  # a comment
  b
FROM build
ENV MORE=$NAME
SHELL [\"/bin/sh\", \"-c\"]
CMD shell form
EXPOSE 80 ${VERSION}
FROM --platform=linux/arm64 debian AS linux-arm64
ENTRYPOINT [\"x\"]
";
    assert_eq!(found(right), "");
}

#[test]
fn rules_are_skipped_as_directives_and_comments_say() {
    let body = "FROM debian AS Build\nMAINTAINER me\n";
    let rules = |start: &str| {
        let findings = linted(&format!("{start}{body}"), "").findings;
        findings
            .iter()
            .map(|finding| finding.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(""), ["StageNameCasing", "MaintainerDeprecated"]);
    assert_eq!(
        rules("# check=skip=StageNameCasing\n"),
        ["MaintainerDeprecated"]
    );
    assert_eq!(
        rules("# check=skip=MaintainerDeprecated, x\n"),
        ["StageNameCasing"]
    );
    assert!(rules("# check=skip=all\n").is_empty());
    let text = "FROM debian\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n";
    assert!(linted(text, "").findings.is_empty());
    assert!(linted(&format!("# check=error=true\n{body}"), "").fails);
    assert!(!linted("# check=error=true\nFROM debian\n", "").fails);
    assert!(!linted(body, "").fails);
    let file = parse(
        "Dockerfile",
        "# check=skipp=all\nFROM a\n",
        &Limits::default(),
    )
    .unwrap();
    let facts = Facts {
        ignore: None,
        build_args: &BTreeMap::new(),
        platform: "linux/amd64",
        platform_of: &|_| None,
    };
    let error = lint(&file, &facts).unwrap_err();
    insta::assert_snapshot!(error, @r#"check has no option "skipp""#);
}

#[test]
fn variables_follow_stages() {
    assert_eq!(
        found("FROM scratch\nCOPY a $PATH\n")
            .matches("UndefinedVar")
            .count(),
        1
    );
    assert_eq!(found("FROM a AS b\nARG X\nFROM b\nCOPY $X /y\n"), "");
    assert_eq!(
        found("ARG GIVEN\nFROM debian:$GIVEN\nARG GIVEN\nLABEL a=$GIVEN\n"),
        "2: the defaults make \"debian:$GIVEN\" no name of an image [InvalidDefaultArgInFrom]"
    );
    let text = "FROM a\nARG VERSION\nLABEL a=$VERSOIN\n";
    insta::assert_snapshot!(found(text),
        @"3: the variable VERSOIN is not declared (did you mean VERSION?) [UndefinedVar]");
}

#[test]
fn what_is_ignored() {
    let found = |ignore: &str, copy: &str| {
        let findings = linted(&format!("FROM a\n{copy}\n"), ignore).findings;
        findings
            .iter()
            .filter(|finding| finding.rule == "CopyIgnoredFile")
            .count()
    };
    assert_eq!(found("a\n", "COPY a /x"), 1);
    assert_eq!(found("a\n", "COPY ./a/ b /x"), 1);
    assert_eq!(found("a\n!a/b\n", "COPY a /x"), 0);
    assert_eq!(found("a\n", "COPY --from=b a /x"), 0);
    assert_eq!(found("*.tar\n", "ADD https://example.org/x.tar /x"), 0);
    assert_eq!(found("*\n", "COPY . /x"), 1);
    assert_eq!(found("a\n", "COPY . /x"), 0);
}
