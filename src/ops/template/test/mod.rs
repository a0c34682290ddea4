//! Templates are tested: built in an empty home, booted, and looked at from inside.

mod expectation;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::cache::CacheOptions;
use super::super::machine::{BootOptions, BuiltImage, boot_in, build_image, find_machine, remove};
use super::super::{Context, RecipeChoice};
use super::{consent, find, inside};
use crate::failure::{Failure, Kind};
use crate::host::Home;
use crate::image::Hardware;
use crate::machine::{Machines, Until};
use crate::qemu::AccelChoice;
use crate::recipe::{Image, Loaded, default_image};
use crate::world::{recipes, templates};

pub use report::{Case, TestReport};

/// The most combinations of parameters.
const MOST: usize = 64;

/// How a template is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOptions {
    /// Parameters of all machines.
    pub settings: BTreeMap<String, String>,
    /// Parameters with several values: every combination is tested.
    pub matrix: Vec<(String, Vec<String>)>,
    /// The home that it is done in, and kept; an empty one that is removed when absent.
    pub home: Option<PathBuf>,
    /// How long a machine may take to be ready.
    pub timeout: Duration,
}

/// Tests a template: that of a path, or of a repository.
///
/// # Errors
/// It is wrong, copies files from outside of its directory, or the user gives up. A build or a test
/// that fails is in the report.
pub fn test(context: &Context, name: &str, options: &TestOptions) -> Result<TestReport, Failure> {
    let file = PathBuf::from(find(context, name)?.recipe);
    let combinations = combinations(options)?;
    let mut loaded = Vec::new();
    for settings in &combinations {
        let one = recipes::load(context, &file, settings)?;
        inside(&file, &one)?;
        let choice = RecipeChoice {
            recipe: file.to_string_lossy().into_owned(),
            settings: settings.clone(),
            ..RecipeChoice::default()
        };
        consent(context, &choice)?;
        loaded.push(one);
    }
    let empty = match &options.home {
        Some(_) => None,
        None => Some(empty_home(context)?),
    };
    let kept = options.home.as_deref();
    let root = kept.or(empty.as_ref().map(tempfile::TempDir::path));
    let root = root.unwrap_or_else(|| context.home.root());
    let mut isolated = Context::new(
        Home::at(std::path::absolute(root).map_err(Failure::io("find", root))?),
        Arc::clone(&context.sink),
        context.interrupt.clone(),
    )
    .with_config(context.config.clone(), context.offline)
    .with_agree(context.agree.clone());
    // They are not below the home in which it is built.
    let is_of_others = |one: &Loaded| templates::is_of_others(context, &one.files);
    isolated.bounded = loaded.iter().any(is_of_others);
    let mut report = TestReport::new(&file, loaded.first());
    for (settings, loaded) in combinations.into_iter().zip(&loaded) {
        let run = Run {
            context: &isolated,
            file: &file,
            options,
            settings,
        };
        run.all(loaded, &mut report)?;
    }
    Ok(report)
}

/// A home beside the user's own, where there is room for it.
fn empty_home(context: &Context) -> Result<tempfile::TempDir, Failure> {
    let root = context.home.root();
    std::fs::create_dir_all(root).map_err(Failure::io("create", root))?;
    tempfile::Builder::new()
        .prefix(".test-")
        .tempdir_in(root)
        .map_err(Failure::io("create a directory in", root))
}

/// Every combination of the values of the matrix, each with all other settings.
fn combinations(options: &TestOptions) -> Result<Vec<BTreeMap<String, String>>, Failure> {
    let mut all = vec![options.settings.clone()];
    for (name, values) in &options.matrix {
        let mut more = Vec::new();
        for settings in &all {
            for value in values {
                let mut settings = settings.clone();
                settings.insert(name.clone(), value.clone());
                more.push(settings);
            }
        }
        if more.len() > MOST {
            return Err(
                Failure::usage(format!("the matrix has more than {MOST} combinations"))
                    .with_help("name fewer values"),
            );
        }
        all = more;
    }
    Ok(all)
}

/// One combination of parameters.
struct Run<'a> {
    context: &'a Context,
    file: &'a Path,
    options: &'a TestOptions,
    settings: BTreeMap<String, String>,
}

impl Run<'_> {
    fn all(&self, loaded: &Loaded, report: &mut TestReport) -> Result<(), Failure> {
        let names = loaded.images.iter().map(|image| image.name.value.as_str());
        let image = default_image(&loaded.recipe.name, names).and_then(|at| loaded.images.get(at));
        let Some(image) = image else {
            let message = format!("{} does not say which image is tested", self.file.display());
            return Err(Failure::usage(message).with_help(
                "name one of its images like the recipe, and give parameters with --set",
            ));
        };
        let started = Instant::now();
        let choice = RecipeChoice {
            recipe: self.file.to_string_lossy().into_owned(),
            image: Some(image.name.value.clone()),
            settings: self.settings.clone(),
            ..RecipeChoice::default()
        };
        let built = build_image(self.context, &choice, &CacheOptions::default());
        let Some(built) = self.case("build", started, built, report)? else {
            return Ok(());
        };
        self.boot(image, &built, report)
    }

    /// Adds a case; gives what came of it, unless it failed.
    fn case<T>(
        &self,
        name: &str,
        started: Instant,
        result: Result<T, Failure>,
        report: &mut TestReport,
    ) -> Result<Option<T>, Failure> {
        let (done, failure) = match result {
            Ok(done) => (Some(done), None),
            Err(error) if error.is(Kind::Interrupted) => return Err(error),
            Err(error) => (None, Some(error.to_string())),
        };
        report.cases.push(Case {
            name: name.to_owned(),
            parameters: self.settings.clone(),
            seconds: started.elapsed().as_secs_f64(),
            failure,
        });
        Ok(done)
    }

    fn boot(
        &self,
        image: &Image,
        built: &BuiltImage,
        report: &mut TestReport,
    ) -> Result<(), Failure> {
        let options = BootOptions {
            name: None,
            hardware: Hardware::default(),
            ports: Vec::new(),
            accel: AccelChoice::Auto,
            remove: true,
            until: Until::Ssh,
            timeout: self.options.timeout,
        };
        let started = Instant::now();
        let machines = Machines::new(&self.context.home);
        // None of the image's ports: those of the host may be taken.
        let booted = boot_in(self.context, &machines, &built.image, &options, Vec::new());
        let Some(booted) = self.case("boot", started, booted, report)? else {
            return Ok(());
        };
        let machine = find_machine(self.context, booted.name.as_str())?;
        let tested = self.tests(image, booted.name.as_str(), report);
        let removed = remove(self.context, &machine, true);
        tested?;
        removed.map(drop)
    }

    fn tests(&self, image: &Image, machine: &str, report: &mut TestReport) -> Result<(), Failure> {
        for test in &image.tests {
            let started = Instant::now();
            let mut held = Ok(());
            for expectation in &test.expectations {
                held = expectation::check(self.context, machine, expectation);
                if held.is_err() {
                    break;
                }
            }
            self.case(&test.name, started, held, report)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_tested_once() {
        let mut options = TestOptions {
            settings: BTreeMap::from([("size".to_owned(), "8G".to_owned())]),
            matrix: vec![
                ("a".to_owned(), vec!["1".to_owned(), "2".to_owned()]),
                ("b".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
            ],
            home: None,
            timeout: Duration::ZERO,
        };
        let all = combinations(&options).unwrap();
        let shown = all
            .iter()
            .map(|one| format!("{}{}{}", one["size"], one["a"], one["b"]));
        assert_eq!(shown.collect::<Vec<_>>(), ["8G1x", "8G1y", "8G2x", "8G2y"]);
        let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
        options.matrix.push(("c".to_owned(), many));
        assert!(combinations(&options).is_err());
    }
}
