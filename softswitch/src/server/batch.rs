//! Batches of updates and of reads on one pipeline, as the Write and Read RPCs have them, without gRPC.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::write_request::Atomicity;

use super::config::ForwardingPipeline;
use super::error::Refused;
use super::reconcile::{self, Kept};
use super::role::Access;
use super::{atomic, read, write};

impl ForwardingPipeline {
    /// Applies a batch of updates, as far as a role may (§12); one result for each, in order.
    ///
    /// # Errors
    /// UNIMPLEMENTED for a batch that cannot have this atomicity; nothing was done.
    pub fn write(
        &self,
        access: &Access,
        updates: &[v1::Update],
        atomicity: Atomicity,
    ) -> Result<Vec<Result<(), Refused>>, Refused> {
        match atomicity {
            Atomicity::ContinueOnError => Ok(self.write_each(access, updates)),
            Atomicity::RollbackOnError => Ok(atomic::rollback_on_error(self, access, updates)),
            Atomicity::DataplaneAtomic => atomic::dataplane_atomic(self, access, updates),
        }
    }

    fn write_each(&self, access: &Access, updates: &[v1::Update]) -> Vec<Result<(), Refused>> {
        if access.is_full() {
            return write::apply(self, updates);
        }
        let checks: Vec<_> = updates.iter().map(|update| access.check(update.entity.as_ref())).collect();
        let allowed = updates.iter().zip(&checks).filter(|(_, check)| check.is_ok());
        let allowed: Vec<v1::Update> = allowed.map(|(update, _)| update.clone()).collect();
        let mut results = write::apply(self, &allowed).into_iter();
        checks.into_iter().map(|check| check.and_then(|()| results.next().unwrap_or(Ok(())))).collect()
    }

    /// What one element of a read request selects (§13).
    ///
    /// # Errors
    /// A request that is not valid.
    pub fn read(&self, request: &v1::Entity) -> Result<Vec<v1::Entity>, Refused> {
        let mut found = Vec::new();
        read::read(self, request, &mut |entity| found.push(entity))?;
        Ok(found)
    }

    /// Takes over what another pipeline holds, as RECONCILE_AND_COMMIT does (§14). Nothing may have been written to this
    /// one yet.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the first thing that has no place here; this pipeline is then of no use.
    pub fn take_over(&self, old: &Self) -> Result<Kept, Refused> {
        reconcile::carry_over(old, self)
    }
}
