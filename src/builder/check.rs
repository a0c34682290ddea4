//! A command that must succeed in the finished tree.

use super::tree;
use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::sandbox::{Job, Lent, Runner, Sandbox, Task};
use crate::store::Store;

pub(super) struct Check {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
}

impl Builder for Check {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Check(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let layers: Vec<ObjectRef> = request.inputs_of("layer").collect();
        let scratch = self.sandbox.scratch()?;
        let task = Task::Command(tree::command(&params));
        let job = Job::over(&layers, vec![task]);
        self.sandbox.run(job, &Lent::default(), &scratch, request)?;
        let ok = self.store.put_bytes(b"").map_err(Failure::of_step)?;
        Ok(Outputs::from([("ok".to_owned(), ok)]))
    }
}
