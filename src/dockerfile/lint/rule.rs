//! The checks of `docker build --check`, by their names.

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    /// What to do.
    pub help: &'static str,
    /// Only runs when `experimental=` says so.
    pub is_experimental: bool,
}

const fn rule(name: &'static str, help: &'static str) -> Rule {
    Rule {
        name,
        help,
        is_experimental: false,
    }
}

impl Rule {
    /// BuildKit's page about it.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        // BuildKit has no page about this one.
        if *self == INVALID_BASE_IMAGE_PLATFORM {
            return None;
        }
        let letters: Vec<char> = self.name.chars().collect();
        let mut slug = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let after_small = at > 0 && letters[at - 1].is_ascii_lowercase();
            let before_small = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            if letter.is_ascii_uppercase() && at > 0 && (after_small || before_small) {
                slug.push('-');
            }
            slug.push(letter.to_ascii_lowercase());
        }
        Some(format!(
            "https://docs.docker.com/go/dockerfile/rule/{slug}/"
        ))
    }
}

pub(super) const STAGE_NAME_CASING: Rule = rule(
    "StageNameCasing",
    "write names of stages in small letters; they have no case",
);
pub(super) const FROM_AS_CASING: Rule = rule("FromAsCasing", "write FROM and AS in the same case");
pub(super) const NO_EMPTY_CONTINUATION: Rule = rule(
    "NoEmptyContinuation",
    "remove the empty line, or write # in it",
);
pub(super) const CONSISTENT_INSTRUCTION_CASING: Rule = rule(
    "ConsistentInstructionCasing",
    "write all instructions in the same case",
);
pub(super) const DUPLICATE_STAGE_NAME: Rule = rule(
    "DuplicateStageName",
    "give each stage its own name; the last one counts",
);
pub(super) const RESERVED_STAGE_NAME: Rule = rule(
    "ReservedStageName",
    "choose another name: scratch is the empty image, context the build context",
);
pub(super) const JSON_ARGS_RECOMMENDED: Rule = rule(
    "JSONArgsRecommended",
    "write a list, such as [\"nginx\", \"-g\", \"daemon off;\"]: a shell does not pass signals on",
);
pub(super) const MAINTAINER_DEPRECATED: Rule = rule(
    "MaintainerDeprecated",
    "write LABEL org.opencontainers.image.authors=\"…\" instead",
);
pub(super) const UNDEFINED_ARG_IN_FROM: Rule = rule(
    "UndefinedArgInFrom",
    "declare it with ARG before the first FROM",
);
pub(super) const WORKDIR_RELATIVE_PATH: Rule = rule(
    "WorkdirRelativePath",
    "write an absolute path; the base image decides what a relative one means",
);
pub(super) const UNDEFINED_VAR: Rule = rule(
    "UndefinedVar",
    "declare it with ARG or ENV above, unless the base image sets it",
);
pub(super) const MULTIPLE_INSTRUCTIONS_DISALLOWED: Rule = rule(
    "MultipleInstructionsDisallowed",
    "remove it: only the last one of a stage counts",
);
pub(super) const LEGACY_KEY_VALUE_FORMAT: Rule = rule(
    "LegacyKeyValueFormat",
    "write NAME=value, with = in between",
);
pub(super) const SECRETS_USED_IN_ARG_OR_ENV: Rule = rule(
    "SecretsUsedInArgOrEnv",
    "use RUN --mount=type=secret: values of ARG and ENV can be read from the image",
);
pub(super) const INVALID_DEFAULT_ARG_IN_FROM: Rule = rule(
    "InvalidDefaultArgInFrom",
    "give the ARG a default with which FROM names an image",
);
pub(super) const FROM_PLATFORM_FLAG_CONST_DISALLOWED: Rule = rule(
    "FromPlatformFlagConstDisallowed",
    "use --platform=$BUILDPLATFORM or $TARGETPLATFORM, or have the platform in the stage's name",
);
pub(super) const REDUNDANT_TARGET_PLATFORM: Rule = rule(
    "RedundantTargetPlatform",
    "leave --platform out: this is the default",
);
pub(super) const COPY_IGNORED_FILE: Rule = rule(
    "CopyIgnoredFile",
    "remove the pattern from .dockerignore, or do not copy the file",
);
pub(super) const INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    is_experimental: true,
    ..rule(
        "InvalidDefinitionDescription",
        "begin the comment with the name, or put an empty line below it",
    )
};
pub(super) const EXPOSE_PROTO_CASING: Rule =
    rule("ExposeProtoCasing", "write the protocol in small letters");
pub(super) const EXPOSE_INVALID_FORMAT: Rule = rule(
    "ExposeInvalidFormat",
    "write only the port of the image; ports of the host are chosen when it runs",
);
pub(super) const INVALID_BASE_IMAGE_PLATFORM: Rule = rule(
    "InvalidBaseImagePlatform",
    "use a base image that exists for the platform of the build",
);

/// All of them.
pub const RULES: [Rule; 22] = [
    STAGE_NAME_CASING,
    FROM_AS_CASING,
    NO_EMPTY_CONTINUATION,
    CONSISTENT_INSTRUCTION_CASING,
    DUPLICATE_STAGE_NAME,
    RESERVED_STAGE_NAME,
    JSON_ARGS_RECOMMENDED,
    MAINTAINER_DEPRECATED,
    UNDEFINED_ARG_IN_FROM,
    WORKDIR_RELATIVE_PATH,
    UNDEFINED_VAR,
    MULTIPLE_INSTRUCTIONS_DISALLOWED,
    LEGACY_KEY_VALUE_FORMAT,
    SECRETS_USED_IN_ARG_OR_ENV,
    INVALID_DEFAULT_ARG_IN_FROM,
    FROM_PLATFORM_FLAG_CONST_DISALLOWED,
    REDUNDANT_TARGET_PLATFORM,
    COPY_IGNORED_FILE,
    INVALID_DEFINITION_DESCRIPTION,
    EXPOSE_PROTO_CASING,
    EXPOSE_INVALID_FORMAT,
    INVALID_BASE_IMAGE_PLATFORM,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let page = |rule: Rule| rule.url().unwrap();
        let start = "https://docs.docker.com/go/dockerfile/rule/";
        assert_eq!(
            page(STAGE_NAME_CASING),
            format!("{start}stage-name-casing/")
        );
        assert_eq!(
            page(JSON_ARGS_RECOMMENDED),
            format!("{start}json-args-recommended/")
        );
        assert_eq!(
            page(SECRETS_USED_IN_ARG_OR_ENV),
            format!("{start}secrets-used-in-arg-or-env/")
        );
    }
}
