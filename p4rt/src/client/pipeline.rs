//! The program of the switch.

use tonic::Code;

use super::{Session, SessionError};
use crate::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use crate::p4::v1::set_forwarding_pipeline_config_request::Action;
use crate::p4::v1::{ForwardingPipelineConfig, GetForwardingPipelineConfigRequest, SetForwardingPipelineConfigRequest};

/// What to do with the state of the switch when its program is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Start empty (VERIFY_AND_COMMIT).
    Replace,
    /// Keep what still fits (RECONCILE_AND_COMMIT) where the switch can, else start empty.
    Reconcile,
}

/// What happened to the state of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is empty.
    Replaced,
    /// It was kept.
    Reconciled,
}

impl Session {
    /// The cookie of the program that runs; `None` where none runs, or one without cookie.
    pub async fn pipeline_cookie(&self) -> Result<Option<u64>, SessionError> {
        let config = self.get_pipeline(ResponseType::CookieOnly).await?;
        Ok(config.and_then(|c| c.cookie).map(|c| c.cookie))
    }

    /// The program that runs; `None` where none does.
    pub async fn pipeline(&self) -> Result<Option<ForwardingPipelineConfig>, SessionError> {
        self.get_pipeline(ResponseType::All).await
    }

    async fn get_pipeline(
        &self,
        response_type: ResponseType,
    ) -> Result<Option<ForwardingPipelineConfig>, SessionError> {
        let request =
            GetForwardingPipelineConfigRequest { device_id: self.device_id(), response_type: response_type as i32 };
        let mut client = self.shared.client.clone();
        let call = client.get_forwarding_pipeline_config(request);
        match self.call("GetForwardingPipelineConfig", call).await {
            Ok(response) => Ok(response.config),
            // §15 asks for FAILED_PRECONDITION where nothing was loaded.
            Err(e) if e.code() == Some(Code::FailedPrecondition) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Loads a program. Only a primary can.
    pub async fn set_pipeline(
        &self,
        config: ForwardingPipelineConfig,
        commit: Commit,
    ) -> Result<Committed, SessionError> {
        // Where no program runs there is nothing to keep, and BMv2 may fall over the request.
        if commit == Commit::Reconcile && self.get_pipeline(ResponseType::CookieOnly).await?.is_some() {
            match self.commit(Some(config.clone()), Action::ReconcileAndCommit).await {
                Ok(()) => return Ok(Committed::Reconciled),
                // How §14 lets a switch say no: it cannot at all, or what it holds does not fit the new program. A
                // program that is itself wrong is refused below, too.
                Err(e) if matches!(e.code(), Some(Code::Unimplemented | Code::InvalidArgument)) => {}
                // BMv2 fails for programs with indirect meters or counters, and stays half way: it refuses every program
                // until the one that it began with is committed. A switch with nothing to commit refuses that, which is well.
                Err(e) if e.code() == Some(Code::Unknown) => match self.commit(None, Action::Commit).await {
                    Ok(()) | Err(SessionError::Refused { .. }) => {}
                    Err(e) => return Err(e),
                },
                Err(e) => return Err(e),
            }
        }
        self.commit(Some(config), Action::VerifyAndCommit).await?;
        Ok(Committed::Replaced)
    }

    async fn commit(&self, config: Option<ForwardingPipelineConfig>, action: Action) -> Result<(), SessionError> {
        let election_id = self.election_id().ok_or(SessionError::Standby("load a program"))?;
        let request = SetForwardingPipelineConfigRequest {
            device_id: self.device_id(),
            role: self.role().to_owned(),
            election_id: Some(election_id.into()),
            action: action as i32,
            config,
            ..Default::default()
        };
        let mut client = self.shared.client.clone();
        let limit = self.shared.target.pipeline_timeout;
        let call = client.set_forwarding_pipeline_config(request);
        self.call_within("SetForwardingPipelineConfig", limit, call).await.map(drop)
    }
}
