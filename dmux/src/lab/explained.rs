//! The step that holds what `dmux explain` says against where packets land.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use dmux_controller::api::v1::{ExplainRequest, Explanation};
use dmux_wire::ProviderId;
use serde_json::json;

use super::report::{human, ms};
use super::steps::{PATIENCE, Stage};
use super::topology::PROTOCOL;

impl Stage<'_> {
    /// The explanation of a client's packets at a gateway, always asked of the first one's controller. Asked again while the
    /// switch is being written.
    async fn explanation(&self, client: Ipv4Addr, gateway: u16) -> anyhow::Result<Explanation> {
        let operator = self.operator(1)?;
        let request = ExplainRequest {
            client: client.to_string(),
            protocol: PROTOCOL.0.into(),
            provider: ProviderId::ANY.0,
            gateway: gateway.into(),
            ..ExplainRequest::default()
        };
        let began = Instant::now();
        loop {
            let answer = operator.explain(request.clone()).await?;
            if answer.switch_state == "synced" || began.elapsed() >= PATIENCE {
                return Ok(answer);
            }
        }
    }

    /// Each client's router as `dmux explain` tells it is the one that its packets reach.
    pub(super) async fn explained(&mut self) -> anyhow::Result<()> {
        let chosen = |answer: &Explanation| answer.chosen.as_ref().map_or("nobody".into(), |c| c.name.clone());
        let proven = |answer: &Explanation| !answer.differs && answer.no_proof.is_empty();
        let began = Instant::now();
        let c1 = self.explanation(self.c1.addresses()[0], 1).await?;
        let took = began.elapsed();
        let reasons: BTreeMap<String, String> = c1
            .rejected
            .iter()
            .map(|r| (r.router.as_ref().map_or_else(String::new, |router| router.name.clone()), r.detail.clone()))
            .collect();
        let farther = c1.rejected.iter().all(|r| r.reason == "farther");
        let landed = self.landing(ProviderId::ANY).await;
        let (mut agree, mut proofs, mut entries) = (0, usize::from(proven(&c1)), c1.proof.len());
        for (&client, answer) in &landed {
            let explained = self.explanation(client, 2).await?;
            let lands_at = answer.map_or_else(|| "lost".into(), |a| self.router_name(a.router));
            agree += usize::from(chosen(&explained) == lands_at);
            proofs += usize::from(proven(&explained));
            entries += explained.proof.len();
        }
        let all = landed.len();
        let ok = chosen(&c1) == "r1" && reasons.len() == 2 && farther && agree == all && proofs == all + 1;
        let told: Vec<_> = reasons.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let lines = vec![
            format!("dmux explain, with the switch's entries read back ({}):", human(took)),
            format!("c1 reaches {}; rejected: {}", chosen(&c1), told.join(", ")),
            format!("{agree} of c2's {all} addresses land where paris's controller says, asked through berlin's"),
            format!("{entries} entries read, {} of {} proofs as planned", proofs, all + 1),
        ];
        let measured = json!({
            "c1": { "chosen": chosen(&c1), "rejected": reasons }, "agree": agree, "of": all, "proven": proofs,
            "entries": entries, "ms": ms(took),
        });
        self.report.step("explained", ok, lines, measured);
        Ok(())
    }
}
