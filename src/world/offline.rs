//! What a build needs of the network, told before it begins.

use super::Context;
use crate::builder::packages;
use crate::derivation::step::{self, Guest, GuestAction, Run};
use crate::derivation::{Derivation, Step};
use crate::digest::ObjectRef;
use crate::executor::certain;
use crate::failure::Failure;
use crate::plan::{BlobPlace, Plan};
use crate::source::Source;
use crate::store::Store;

/// Whether a build can go without the network, as far as it is known what will run.
///
/// # Errors
/// It cannot: all that is missing is named, with sizes where they are known.
pub(crate) fn check(context: &Context, store: &Store, plan: &Plan) -> Result<(), Failure> {
    let mut missing = Vec::new();
    let mut packages = false;
    for derivation in certain(store, &context.remembered(), &plan.graph, plan.image) {
        let Some(need) = need(store, derivation, plan) else {
            continue;
        };
        packages |= matches!(need, Need::Network);
        missing.push(match need {
            Need::Content { url, size } => {
                let size = size.map_or_else(String::new, |size| format!(" ({})", bytes(size)));
                format!("{}{size}: {url}", derivation.name)
            }
            Need::Network => format!("{}: uses the network", derivation.name),
        });
    }
    if missing.is_empty() {
        return Ok(());
    }
    let what = match missing.len() {
        1 => "one step needs content that is not in the store".to_owned(),
        count => format!("{count} steps need content that is not in the store"),
    };
    let mut help = "run it once without --offline".to_owned();
    if packages {
        help.push_str("; the store keeps packages that \"vmfab lock\" pinned");
    }
    Err(
        Failure::failed(format!("offline, and {what}:\n  {}", missing.join("\n  ")))
            .with_help(help),
    )
}

/// What a step needs that only the network has.
enum Need {
    Content { url: String, size: Option<u64> },
    Network,
}

fn need(store: &Store, derivation: &Derivation, plan: &Plan) -> Option<Need> {
    let step = Step::from_parts(&derivation.builder, &derivation.params).ok()?;
    match step {
        Step::Fetch(params) => {
            let Some(place) = plan.places.get(&params.checksum) else {
                return blob(plan.blobs.get(&params.checksum)?);
            };
            let is_file =
                |url: &String| Source::new(url).is_ok_and(|source| source.file().is_some());
            let url = place.urls.first()?.clone();
            (!place.urls.iter().any(is_file)).then_some(Need::Content {
                url,
                size: place.size,
            })
        }
        Step::Object(params) => {
            let object = ObjectRef {
                id: params.id,
                size: params.size,
            };
            match store.has_object(&object) {
                true => None,
                false => blob(plan.artifacts.get(&params.id)?),
            }
        }
        Step::OciLayer(params) => blob(plan.blobs.get(&params.diff_id)?),
        Step::Bootstrap(step::Bootstrap { locked, .. })
        | Step::Packages(step::Packages { locked, .. })
        | Step::Bootable(step::Bootable { locked, .. }) => {
            let set = locked.and_then(|digest| plan.locked.get(&digest));
            let here = set.is_some_and(|set| packages::are_here(store, set));
            (!here).then_some(Need::Network)
        }
        Step::Run(Run { network: true, .. }) | Step::Check(Run { network: true, .. }) => {
            Some(Need::Network)
        }
        Step::Guest(guest) => match *guest {
            Guest {
                action: GuestAction::Packages(_),
                ..
            } => Some(Need::Network),
            _ => None,
        },
        _ => None,
    }
}

/// What a blob of a registry needs.
fn blob(place: &BlobPlace) -> Option<Need> {
    (!place.is_local()).then(|| Need::Content {
        url: place.address(),
        size: Some(place.size),
    })
}

/// A size for people.
fn bytes(size: u64) -> String {
    match size {
        0..1024 => format!("{size} bytes"),
        1024..1_048_576 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}
