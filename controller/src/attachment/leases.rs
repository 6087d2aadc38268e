//! Renew and Release.

use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{Kind, Released};

use super::answers::{Asker, Refusal};
use super::flight::{Flight, Purpose, Subject};
use super::{Attachments, Dropped, Effect, Token};
use crate::model::{Command, Metalink, MetalinkId, Mli, Model};
use crate::registration::Now;

/// A lease that was renewed so lately that less than this part of it is over is not written again: whoever repeats a renewal
/// is told what there is.
const FRESH: u64 = 16;

impl Attachments {
    pub(super) fn renew(&mut self, now: Now, model: &Model, asker: Asker, mli: u32) -> Result<Vec<Effect>, Dropped> {
        let metalink = match self.own(model, &asker, Mli(mli)) {
            Ok(Some(metalink)) if now.unix_ms() < metalink.until => metalink.clone(),
            Ok(_) => return self.refuse(&asker, gone()),
            Err(refusal) => return self.refuse(&asker, refusal),
        };
        let lasts = model.access_link(&metalink.link).map_or(0, |link| link.lease_ms(metalink.lease));
        if metalink.until.saturating_sub(now.unix_ms()) > lasts - lasts / FRESH && !metalink.yields {
            return Ok(self.tell_connected(now, &asker, &metalink));
        }
        let id = metalink.id();
        let token = self.begin(now, asker, Mli(mli), Purpose::Renew(Box::new(metalink)))?;
        Ok(token.map(|token| Effect::Renew { token, metalink: id }).into_iter().collect())
    }

    pub(super) fn release(&mut self, now: Now, model: &Model, asker: Asker, mli: u32) -> Result<Vec<Effect>, Dropped> {
        match self.own(model, &asker, Mli(mli)) {
            Ok(Some(metalink)) => {
                let command = Command::ReleaseMetalink { at: now.unix_ms(), metalink: metalink.id() };
                let token = self.begin(now, asker, Mli(mli), Purpose::Release(Mli(mli)))?;
                Ok(token.map(|token| Effect::Propose { token, command }).into_iter().collect())
            }
            // Released before, or ended: what it asks for is so.
            Ok(None) => Ok(asker.answer(&Kind::Released(Released { mli })).into_iter().collect()),
            Err(refusal) => self.refuse(&asker, refusal),
        }
    }

    pub(super) fn tell_released(&mut self, model: &Model, asker: &Asker, mli: Mli) -> Vec<Effect> {
        if self.own(model, asker, mli).is_ok() {
            self.told.forget(mli);
        }
        asker.answer(&Kind::Released(Released { mli: mli.0 })).into_iter().collect()
    }

    /// `None`: the same is under way, and its outcome will be told.
    fn begin(&mut self, now: Now, asker: Asker, mli: Mli, purpose: Purpose) -> Result<Option<Token>, Dropped> {
        let (endpoint, subject) = (asker.endpoint, Subject::Mli(mli));
        if self.flights.joins(&asker, subject) {
            return Ok(None);
        }
        self.flights.begin(now.mono, Flight { asker: Some(asker), endpoint, subject, purpose }).map(Some)
    }

    /// The metalink with this number, if there is any.
    ///
    /// # Errors
    /// It is somebody else's. Who asks is told no more than that it is not its own.
    fn own<'a>(&self, model: &'a Model, asker: &Asker, mli: Mli) -> Result<Option<&'a Metalink>, Refusal> {
        match model.metalink(MetalinkId { gateway: self.gateway, mli }) {
            Some(metalink) if metalink.endpoint != asker.endpoint => Err(gone()),
            found => Ok(found),
        }
    }
}

fn gone() -> Refusal {
    let text = "the endpoint has no such metalink (any more): its lease has ended, or it was revoked; connect anew";
    Refusal::new(RefusalCode::NoSuchMetalink, text)
}
