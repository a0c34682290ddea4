//! Which version of each template is taken: the newest that satisfies all that ask for it, or an
//! explanation of why there is none (PubGrub).

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use pubgrub::{
    DefaultStringReporter, Dependencies, DependencyConstraints, DependencyProvider,
    PackageResolutionStatistics, PubGrubError, Ranges, Reporter,
};
use semver::{Version, VersionReq};

use super::name::TemplateName;
use super::requirement::set_of;
use crate::failure::{Failure, Kind};

/// The most templates that one recipe may need, with those that these need.
pub const MOST_TEMPLATES: usize = 256;
/// How often a version is chosen before the resolver gives up.
const MOST_CHOICES: usize = 20_000;

/// A version that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub version: Version,
    pub needs: Vec<(TemplateName, VersionReq)>,
}

/// What there is to choose from.
pub trait Known {
    /// The versions of a template; none when nobody has it.
    ///
    /// # Errors
    /// It cannot be found out.
    fn candidates(&self, name: &TemplateName) -> Result<Vec<Candidate>, Failure>;
}

/// Chooses versions for what `root` needs; `root` is for messages. Those that are `preferred` are
/// taken where they fit, as a lock asks for.
///
/// # Errors
/// No choice fits, templates need each other in a circle, or there are too many.
pub fn resolve(
    root: &str,
    needs: &[(TemplateName, VersionReq)],
    preferred: &BTreeMap<TemplateName, Version>,
    known: &dyn Known,
) -> Result<BTreeMap<TemplateName, Version>, Failure> {
    let root = Node::Root(root.into());
    let provider = Provider {
        root: root.clone(),
        needs,
        preferred,
        known,
        seen: RefCell::default(),
        choices: Cell::default(),
    };
    let solution = pubgrub::resolve(&provider, root, Version::new(0, 0, 0));
    let solution = solution.map_err(failure)?;
    let chosen: BTreeMap<TemplateName, Version> = solution
        .into_iter()
        .filter_map(|(node, version)| match node {
            Node::Root(_) => None,
            Node::Template(name) => Some((name, version)),
        })
        .collect();
    provider.check_circles(&chosen)?;
    Ok(chosen)
}

/// A recipe that needs templates, or one of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Node {
    Root(Rc<str>),
    Template(TemplateName),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Template(name) => name.fmt(f),
        }
    }
}

/// A failure as an error of the resolver's.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Stopped(#[from] Failure);

struct Provider<'a> {
    root: Node,
    needs: &'a [(TemplateName, VersionReq)],
    preferred: &'a BTreeMap<TemplateName, Version>,
    known: &'a dyn Known,
    seen: RefCell<BTreeMap<TemplateName, Rc<[Candidate]>>>,
    choices: Cell<usize>,
}

impl Provider<'_> {
    fn candidates(&self, name: &TemplateName) -> Result<Rc<[Candidate]>, Failure> {
        if let Some(seen) = self.seen.borrow().get(name) {
            return Ok(Rc::clone(seen));
        }
        if self.seen.borrow().len() == MOST_TEMPLATES {
            let message = format!("{} needs more than {MOST_TEMPLATES} templates", self.root);
            return Err(Failure::new(Kind::Recipe, message).with_help(
                "a template may need as many, with all that those need: build on fewer",
            ));
        }
        let mut candidates = self.known.candidates(name)?;
        candidates.sort_by(|a, b| a.version.cmp(&b.version));
        let candidates: Rc<[Candidate]> = candidates.into();
        let mut seen = self.seen.borrow_mut();
        seen.insert(name.clone(), Rc::clone(&candidates));
        Ok(candidates)
    }

    fn constraints(
        &self,
        needs: &[(TemplateName, VersionReq)],
    ) -> Result<DependencyConstraints<Node, Ranges<Version>>, Failure> {
        let mut all: BTreeMap<&TemplateName, Ranges<Version>> = BTreeMap::new();
        for (name, requirement) in needs {
            let candidates = self.candidates(name)?;
            let existing: Vec<Version> = candidates.iter().map(|one| one.version.clone()).collect();
            let set = set_of(requirement, &existing);
            let both = match all.get(name) {
                Some(other) => other.intersection(&set),
                None => set,
            };
            all.insert(name, both);
        }
        let node = |(name, set): (&TemplateName, _)| (Node::Template(name.clone()), set);
        Ok(all.into_iter().map(node).collect())
    }

    /// Templates that need themselves, by way of others or not, cannot be built.
    fn check_circles(&self, chosen: &BTreeMap<TemplateName, Version>) -> Result<(), Failure> {
        let mut done = Vec::new();
        for name in chosen.keys() {
            self.walk(name, chosen, &mut Vec::new(), &mut done)?;
        }
        Ok(())
    }

    fn walk(
        &self,
        name: &TemplateName,
        chosen: &BTreeMap<TemplateName, Version>,
        around: &mut Vec<TemplateName>,
        done: &mut Vec<TemplateName>,
    ) -> Result<(), Failure> {
        if let Some(start) = around.iter().position(|other| other == name) {
            let names = around[start..].iter().chain([name]);
            let names: Vec<String> = names.map(ToString::to_string).collect();
            let message = format!("the template {name} needs itself");
            return Err(Failure::new(Kind::Recipe, message)
                .with_help(format!("the circle is {}", names.join(" → "))));
        }
        if done.contains(name) {
            return Ok(());
        }
        around.push(name.clone());
        let candidates = self.candidates(name)?;
        let version = chosen.get(name);
        let taken = candidates.iter().find(|one| Some(&one.version) == version);
        for (next, _) in taken.into_iter().flat_map(|taken| &taken.needs) {
            self.walk(next, chosen, around, done)?;
        }
        around.pop();
        done.push(name.clone());
        Ok(())
    }
}

impl DependencyProvider for Provider<'_> {
    type P = Node;
    type V = Version;
    type VS = Ranges<Version>;
    /// Templates that collided often come first, then those with few versions.
    type Priority = (u32, Reverse<usize>);
    type M = String;
    type Err = Stopped;

    fn prioritize(
        &self,
        node: &Node,
        range: &Self::VS,
        statistics: &PackageResolutionStatistics,
    ) -> Self::Priority {
        let Node::Template(name) = node else {
            return (u32::MAX, Reverse(0));
        };
        let fitting = self.candidates(name).map_or(0, |all| {
            all.iter()
                .filter(|one| range.contains(&one.version))
                .count()
        });
        match fitting {
            // Nothing fits: that is known at once.
            0 => (u32::MAX, Reverse(0)),
            fitting => (statistics.conflict_count(), Reverse(fitting)),
        }
    }

    fn choose_version(&self, node: &Node, range: &Self::VS) -> Result<Option<Version>, Stopped> {
        let Node::Template(name) = node else {
            return Ok(Some(Version::new(0, 0, 0)));
        };
        self.choices.set(self.choices.get() + 1);
        if self.choices.get() > MOST_CHOICES {
            let message = format!(
                "no versions found for {} after {MOST_CHOICES} tries",
                self.root
            );
            return Err(Failure::new(Kind::Recipe, message)
                .with_help("name versions more exactly, such as =1.2.3")
                .into());
        }
        if let Some(preferred) = self.preferred.get(name)
            && range.contains(preferred)
            && self
                .candidates(name)?
                .iter()
                .any(|one| one.version == *preferred)
        {
            return Ok(Some(preferred.clone()));
        }
        let candidates = self.candidates(name)?;
        let mut fitting = candidates.iter().rev().map(|one| &one.version);
        Ok(fitting.find(|version| range.contains(version)).cloned())
    }

    fn get_dependencies(
        &self,
        node: &Node,
        version: &Version,
    ) -> Result<Dependencies<Node, Self::VS, String>, Stopped> {
        let Node::Template(name) = node else {
            return Ok(Dependencies::Available(self.constraints(self.needs)?));
        };
        let candidates = self.candidates(name)?;
        let taken = candidates.iter().find(|one| one.version == *version);
        let needs = taken.map_or(&[][..], |taken| &taken.needs);
        // A template that needs another version of itself would never end: the circle is told.
        if needs.iter().any(|(other, _)| other == name) {
            let message = format!("the template {name} needs itself");
            return Err(Failure::new(Kind::Recipe, message)
                .with_help(format!("the circle is {name} → {name}"))
                .into());
        }
        Ok(Dependencies::Available(self.constraints(needs)?))
    }
}

/// An explanation without what only the resolver knows: a version of the root, and the smallest
/// version that comes before a release.
fn readable(report: &str) -> String {
    let report = report.replace(" 0.0.0 is forbidden", " cannot be built");
    let report = report.replace(" 0.0.0 ", " ");
    let words = report.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', '.', ')', '\n']);
        match bare.strip_suffix("-0").filter(|_| bare.starts_with('<')) {
            Some(shorter) => format!("{shorter}{}", &word[bare.len()..]),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn failure(error: PubGrubError<Provider<'_>>) -> Failure {
    match error {
        PubGrubError::NoSolution(tree) => {
            let report = readable(&DefaultStringReporter::report(&tree));
            Failure::new(Kind::Recipe, "no versions of the templates fit together")
                .with_output(report.lines().map(str::to_owned).collect())
                .with_help(
                    "ask for other versions, or \"vmfab template repo update\" looks for newer ones",
                )
        }
        PubGrubError::ErrorRetrievingDependencies { source, .. }
        | PubGrubError::ErrorChoosingVersion { source, .. }
        | PubGrubError::ErrorInShouldCancel(source) => source.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Needs = Vec<(TemplateName, VersionReq)>;

    /// A template, its version, and what it needs.
    type Told<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    /// Versions by name.
    #[derive(Debug, Clone, Default)]
    struct World(BTreeMap<TemplateName, Vec<Candidate>>);

    impl Known for World {
        fn candidates(&self, name: &TemplateName) -> Result<Vec<Candidate>, Failure> {
            Ok(self.0.get(name).cloned().unwrap_or_default())
        }
    }

    fn name(text: &str) -> TemplateName {
        format!("x/{text}").parse().unwrap()
    }

    fn needs(all: &[(&str, &str)]) -> Needs {
        all.iter()
            .map(|(other, range)| (name(other), range.parse().unwrap()))
            .collect()
    }

    fn world(all: &[Told<'_>]) -> World {
        let mut world = World::default();
        for (template, version, others) in all {
            world.0.entry(name(template)).or_default().push(Candidate {
                version: version.parse().unwrap(),
                needs: needs(others),
            });
        }
        world
    }

    fn solve(world: &World, root: &[(&str, &str)]) -> Result<String, Failure> {
        let chosen = resolve("web.kdl", &needs(root), &BTreeMap::new(), world)?;
        let chosen = chosen
            .iter()
            .map(|(name, version)| format!("{name} {version}"));
        Ok(chosen.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_newest_that_fits() {
        let world = world(&[
            ("a", "1.0.0", &[]),
            ("a", "1.4.0", &[("b", "1")]),
            ("a", "2.0.0", &[]),
            ("b", "1.0.0", &[]),
            ("b", "1.9.0", &[("c", "^2")]),
            ("c", "1.0.0", &[]),
        ]);
        assert_eq!(
            solve(&world, &[("a", "^1")]).unwrap(),
            "x/a 1.4.0, x/b 1.0.0"
        );
        assert_eq!(solve(&world, &[("a", "*")]).unwrap(), "x/a 2.0.0");
        assert_eq!(solve(&world, &[("a", "<1.4")]).unwrap(), "x/a 1.0.0");
        let locked = [(name("a"), Version::new(1, 0, 0))].into();
        let chosen = resolve("web.kdl", &needs(&[("a", "^1")]), &locked, &world).unwrap();
        assert_eq!(chosen[&name("a")], Version::new(1, 0, 0));
        let chosen = resolve("web.kdl", &needs(&[("a", "^2")]), &locked, &world).unwrap();
        assert_eq!(chosen[&name("a")], Version::new(2, 0, 0));
    }

    #[test]
    fn conflicts_are_explained() {
        let world = world(&[
            ("a", "1.0.0", &[("c", "^1")]),
            ("b", "1.0.0", &[("c", "^2")]),
            ("c", "1.0.0", &[]),
            ("c", "2.0.0", &[]),
        ]);
        let failure = solve(&world, &[("a", "1"), ("b", "1")]).unwrap_err();
        assert_eq!(failure.kind(), Kind::Recipe);
        let explained = failure.details().output.join("\n");
        for part in ["x/a", "x/b", "x/c", "web.kdl"] {
            assert!(explained.contains(part), "{explained}");
        }
        let failure = solve(&world, &[("nobody", "1")]).unwrap_err();
        let explained = failure.details().output.join("\n");
        assert!(
            explained.contains("no version of x/nobody in >=1.0.0, <2.0.0 and"),
            "{explained}"
        );
    }

    #[test]
    fn circles_and_crowds_are_refused() {
        let circle = world(&[
            ("a", "1.0.0", &[("b", "1")]),
            ("b", "1.0.0", &[("a", "1")]),
            ("self", "1.0.0", &[("self", "1")]),
            ("self", "1.1.0", &[("self", "=1.0.0")]),
        ]);
        let failure = solve(&circle, &[("a", "1")]).unwrap_err();
        assert_eq!(failure.help(), ["the circle is x/a → x/b → x/a"]);
        let failure = solve(&circle, &[("self", "1")]).unwrap_err();
        assert_eq!(failure.help(), ["the circle is x/self → x/self"]);

        let mut crowd = World::default();
        for n in 0..1000 {
            crowd.0.insert(
                name(&format!("t{n}")),
                vec![Candidate {
                    version: Version::new(1, 0, 0),
                    needs: needs(&[(&format!("t{}", n + 1), "1")]),
                }],
            );
        }
        let failure = solve(&crowd, &[("t0", "1")]).unwrap_err();
        assert_eq!(failure.message(), "web.kdl needs more than 256 templates");
    }

    /// Whether some choice of versions satisfies everything: all are tried.
    fn possible(
        world: &World,
        needs: &Needs,
        chosen: &mut BTreeMap<TemplateName, Version>,
    ) -> bool {
        let Some((next, _)) = needs.iter().find(|(name, _)| !chosen.contains_key(name)) else {
            return needs
                .iter()
                .all(|(name, range)| range.matches(&chosen[name]));
        };
        let next = next.clone();
        world.0.get(&next).into_iter().flatten().any(|candidate| {
            chosen.insert(next.clone(), candidate.version.clone());
            let all = [needs.clone(), candidate.needs.clone()].concat();
            let fits = possible(world, &all, chosen);
            chosen.remove(&next);
            fits
        })
    }

    /// Templates a to e; each needs only later ones, so that there are no circles.
    fn worlds() -> impl Strategy<Value = (World, Needs)> {
        let range = || prop::sample::select(vec!["*", "1", "2", "~1.0", "=1.1.0", ">=1.1", "<2"]);
        let versions = prop::collection::btree_set((1..3_u64, 0..3_u64), 0..4);
        let template = versions.prop_flat_map(move |versions| {
            let needs = prop::collection::vec((1..5_usize, range()), 0..3);
            versions
                .into_iter()
                .map(|version| (Just(version), needs.clone()))
                .collect::<Vec<_>>()
        });
        let root = prop::collection::vec((0..5_usize, range()), 1..4);
        (prop::collection::vec(template, 5), root).prop_map(|(templates, root)| {
            let named = |n: usize| name(&format!("t{n}"));
            let mut world = World::default();
            for (n, versions) in templates.into_iter().enumerate() {
                for ((major, minor), others) in versions {
                    let others = others.into_iter().filter(|(by, _)| n + by < 5);
                    world.0.entry(named(n)).or_default().push(Candidate {
                        version: Version::new(major, minor, 0),
                        needs: others
                            .map(|(by, range)| (named(n + by), range.parse().unwrap()))
                            .collect(),
                    });
                }
            }
            let root = root
                .into_iter()
                .map(|(n, range)| (named(n), range.parse().unwrap()));
            (world, root.collect())
        })
    }

    proptest! {
        /// There is an answer exactly when trying all finds one; it satisfies every need, and has no
        /// template that nobody needs.
        #[test]
        fn answers_are_those_of_trying_everything((world, root) in worlds()) {
            let solved = resolve("root", &root, &BTreeMap::new(), &world);
            prop_assert_eq!(solved.is_ok(), possible(&world, &root, &mut BTreeMap::new()));
            let Ok(chosen) = solved else { return Ok(()) };
            let mut needed = root;
            for (name, version) in &chosen {
                let taken = world.0[name].iter().find(|one| one.version == *version).unwrap();
                needed.extend(taken.needs.clone());
            }
            for (name, range) in &needed {
                prop_assert!(range.matches(&chosen[name]), "{} {}", name, range);
            }
            for name in chosen.keys() {
                prop_assert!(needed.iter().any(|(other, _)| other == name), "nobody needs {}", name);
            }
        }
    }
}
