//! Ranges of semantic versions as sets, so that a resolver can reason with them.

use pubgrub::Ranges;
use semver::{BuildMetadata, Comparator, Op, Prerelease, Version, VersionReq};

/// The versions that a requirement allows. Of those that exist, the set has exactly those that
/// [`VersionReq::matches`] has: versions before a release count only where the requirement names
/// one.
pub(super) fn set_of(requirement: &VersionReq, existing: &[Version]) -> Ranges<Version> {
    let all = requirement.comparators.iter().map(comparator);
    let mut set = all.fold(Ranges::full(), |set, one| set.intersection(&one));
    for version in existing {
        match (requirement.matches(version), set.contains(version)) {
            (false, true) => {
                let others = Ranges::singleton(version.clone()).complement();
                set = set.intersection(&others);
            }
            (true, false) => set = set.union(&Ranges::singleton(version.clone())),
            _ => {}
        }
    }
    set
}

fn comparator(one: &Comparator) -> Ranges<Version> {
    let low = Version {
        major: one.major,
        minor: one.minor.unwrap_or(0),
        patch: one.patch.unwrap_or(0),
        pre: one.pre.clone(),
        build: BuildMetadata::EMPTY,
    };
    let next_major = || before(one.major.saturating_add(1), 0, 0);
    let next_minor = |minor: u64| before(one.major, minor.saturating_add(1), 0);
    let next_patch = |minor, patch: u64| before(one.major, minor, patch.saturating_add(1));
    // The first version after all that have the numbers that are given.
    let after_same = match (one.minor, one.patch) {
        (None, _) => next_major(),
        (Some(minor), None) => next_minor(minor),
        (Some(minor), Some(patch)) => next_patch(minor, patch),
    };
    let whole = one.patch.is_some();
    match one.op {
        Op::Exact if whole => Ranges::singleton(low),
        Op::Exact | Op::Wildcard => Ranges::between(low, after_same),
        Op::Greater if whole => Ranges::strictly_higher_than(low),
        Op::Greater => Ranges::higher_than(after_same),
        Op::GreaterEq => Ranges::higher_than(low),
        Op::Less => Ranges::strictly_lower_than(low),
        Op::LessEq if whole => Ranges::lower_than(low),
        Op::LessEq => Ranges::strictly_lower_than(after_same),
        Op::Tilde => match one.minor {
            Some(minor) => Ranges::between(low, next_minor(minor)),
            None => Ranges::between(low, next_major()),
        },
        // `^`: the first number that is not zero stays.
        _ => match (one.major, one.minor, one.patch) {
            (0, Some(0), Some(patch)) => Ranges::between(low, next_patch(0, patch)),
            (0, Some(minor), _) => Ranges::between(low, next_minor(minor)),
            _ => Ranges::between(low, next_major()),
        },
    }
}

/// The smallest version of these numbers: what comes before its release.
fn before(major: u64, minor: u64, patch: u64) -> Version {
    Version {
        pre: Prerelease::new("0").unwrap_or(Prerelease::EMPTY),
        ..Version::new(major, minor, patch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version() -> impl Strategy<Value = Version> {
        let pre = prop_oneof![4 => Just(""), 1 => Just("alpha"), 1 => Just("rc.1")];
        (0..3_u64, 0..3_u64, 0..3_u64, pre).prop_map(|(major, minor, patch, pre)| Version {
            pre: Prerelease::new(pre).unwrap(),
            ..Version::new(major, minor, patch)
        })
    }

    fn requirement() -> impl Strategy<Value = VersionReq> {
        let operator = prop::sample::select(vec!["", "^", "~", "=", ">", ">=", "<", "<="]);
        let one = (operator, version(), 1..4_usize).prop_map(|(operator, version, parts)| {
            let numbers = [version.major, version.minor, version.patch];
            let numbers: Vec<String> = numbers[..parts].iter().map(u64::to_string).collect();
            let pre = match parts == 3 && !version.pre.is_empty() {
                true => format!("-{}", version.pre),
                false => String::new(),
            };
            format!("{operator}{}{pre}", numbers.join("."))
        });
        let several = prop::collection::vec(one, 1..3);
        prop_oneof![9 => several.prop_map(|all| all.join(", ")), 1 => Just("*".to_owned()), 1 => Just("1.*".to_owned())]
            .prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        /// The set has of those that exist exactly what the requirement has; and it has the same of
        /// releases that nobody told it of.
        #[test]
        fn sets_are_what_requirements_match(
            requirement in requirement(),
            existing in prop::collection::vec(version(), 0..8),
            other in version(),
        ) {
            let set = set_of(&requirement, &existing);
            for version in &existing {
                prop_assert_eq!(set.contains(version), requirement.matches(version), "{} {}", requirement, version);
            }
            if other.pre.is_empty() {
                prop_assert_eq!(set.contains(&other), requirement.matches(&other), "{} {}", requirement, other);
            }
        }
    }
}
