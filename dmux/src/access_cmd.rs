//! `dmux metanet`, `dmux access-link` and `dmux metalink`: what operators do on access LANs, through any controller's
//! `Access` service.

use clap::{Args, Subcommand};
use dmux_controller::api::v1::{
    AccessLink, AccessLinkName, AdjustMetalinkRequest, ClaimMetalinkRequest, Metalink, MetalinkName, Metanet,
    MetanetName,
};
use dmux_controller::model::{LeaseKind, OutOfProfile};
use dmux_wire::{MacAddr, ProtocolId};

use crate::api_client::{ApiArgs, refused};
use crate::get_cmd::in_time;
use crate::rate::Rate;
use crate::serve_cmd::{self, ServeArgs};

/// The metanets that endpoints of access LANs may have metalinks to.
#[derive(Debug, Args)]
pub struct MetanetArgs {
    #[command(subcommand)]
    command: MetanetCommand,
}

#[derive(Debug, Subcommand)]
enum MetanetCommand {
    /// Create a metanet, or replace the name and policy of one that there is.
    Create(CreateArgs),
    /// Decide who gets metalinks to a metanet, where it does not admit them by itself: by a policy, or asking here.
    Serve(ServeArgs),
    /// Delete a metanet that no metalink leads to.
    Delete {
        #[command(flatten)]
        metanet: MetanetId,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Which metanet.
#[derive(Debug, Clone, Args)]
pub struct MetanetId {
    /// Protocol of the metanet.
    #[arg(long, value_name = "ID")]
    protocol: ProtocolId,
    /// Its provider, if it is one provider's.
    #[arg(long, value_name = "ID", default_value_t = 1, hide_default_value = true)]
    provider: u32,
}

impl MetanetId {
    /// Its name, for the API.
    pub fn name(&self) -> MetanetName {
        MetanetName { protocol: self.protocol.0.into(), provider: self.provider }
    }
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    metanet: MetanetId,
    /// For people; at most 64 bytes.
    #[arg(long)]
    name: String,
    /// Admit endpoints automatically, up to this rate each.
    #[arg(long, value_name = "RATE", required_unless_present = "by_operator")]
    admit_up_to: Option<Rate>,
    /// Admit nobody automatically: the metanet's operator decides.
    #[arg(long, conflicts_with = "admit_up_to")]
    by_operator: bool,
    /// Admit only this endpoint automatically; may be repeated.
    #[arg(long, value_name = "MAC", conflicts_with = "by_operator")]
    allow: Vec<MacAddr>,
    /// Never admit this endpoint automatically; may be repeated.
    #[arg(long, value_name = "MAC")]
    deny: Vec<MacAddr>,
    /// Let endpoints of a LAN speak in it with each other, best effort: it gets a shared MLI on the multipoint VLANs.
    #[arg(long)]
    multipoint: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What may be promised on the access links of gateways. `dmux get capacity` shows it.
#[derive(Debug, Args)]
pub struct AccessLinkArgs {
    #[command(subcommand)]
    command: AccessLinkCommand,
}

#[derive(Debug, Subcommand)]
enum AccessLinkCommand {
    /// Add an access link, or replace what may be promised on it.
    Put(PutArgs),
    /// Remove an access link that has no metalinks.
    Remove {
        #[command(flatten)]
        link: LinkId,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Debug, Args)]
struct LinkId {
    /// Gateway on whose switch it hangs.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    gateway: u16,
    /// Its name at that gateway.
    #[arg(long)]
    name: String,
}

impl LinkId {
    fn name(&self) -> AccessLinkName {
        AccessLinkName { gateway: self.gateway.into(), name: self.name.clone() }
    }
}

#[derive(Debug, Args)]
struct PutArgs {
    #[command(flatten)]
    link: LinkId,
    /// Assignable capacity: what all metalinks together may have, in either direction. Half of the slowest link between
    /// switches is a good figure; the rest is for traffic that nothing is promised to.
    #[arg(long, value_name = "RATE")]
    capacity: Rate,
    /// What all metalinks of one endpoint may have together. Without it: the capacity.
    #[arg(long, value_name = "RATE")]
    endpoint_maximum: Option<Rate>,
    /// How long a short-term lease lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    short_lease: u32,
    /// How long a long-term lease lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    long_lease: u32,
    /// Let endpoints attach with certificates only.
    #[arg(long)]
    authenticate: bool,
    /// What becomes of what endpoints send beyond their promises: drop, or report-only (it is forwarded). It is counted and
    /// reported either way.
    #[arg(long, value_name = "POLICY", default_value_t = OutOfProfile::Drop)]
    out_of_profile: OutOfProfile,
    #[command(flatten)]
    api: ApiArgs,
}

/// Metalinks on behalf of their metanets. `dmux get metalinks` shows them.
#[derive(Debug, Args)]
pub struct MetalinkArgs {
    #[command(subcommand)]
    command: MetalinkCommand,
}

#[derive(Debug, Subcommand)]
enum MetalinkCommand {
    /// Claim a metalink for an endpoint, whatever the metanet's policy; one that it has already becomes what is claimed now.
    Claim(ClaimArgs),
    /// Make a lease last from now on again.
    Renew {
        #[command(flatten)]
        metalink: MetalinkRef,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Give a metalink more or less bandwidth.
    Adjust {
        #[command(flatten)]
        metalink: MetalinkRef,
        /// What it may carry from now on, in either direction.
        #[arg(long)]
        rate: Rate,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Take a metalink away.
    Revoke {
        #[command(flatten)]
        metalink: MetalinkRef,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Debug, Args)]
struct MetalinkRef {
    /// Whose it is.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    gateway: u16,
    /// Its number there.
    #[arg(long)]
    mli: u32,
}

impl MetalinkRef {
    fn name(&self) -> MetalinkName {
        MetalinkName { gateway: self.gateway.into(), mli: self.mli }
    }
}

#[derive(Debug, Args)]
struct ClaimArgs {
    /// Gateway of the access link.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    gateway: u16,
    /// Name of the access link.
    #[arg(long, value_name = "NAME")]
    link: String,
    /// Port of the switch at which the endpoint is.
    #[arg(long)]
    port: u16,
    /// Ethernet address of the endpoint.
    #[arg(long)]
    mac: MacAddr,
    #[command(flatten)]
    metanet: MetanetId,
    /// What it is to carry, in either direction.
    #[arg(long)]
    rate: Rate,
    /// short or long: short-term leases may have to yield to long-term ones.
    #[arg(long, value_name = "KIND")]
    lease: LeaseKind,
    #[command(flatten)]
    api: ApiArgs,
}

/// Runs `dmux metanet`.
pub async fn metanet(args: MetanetArgs) -> anyhow::Result<()> {
    match args.command {
        MetanetCommand::Create(args) => {
            let macs = |list: &[MacAddr]| list.iter().map(MacAddr::to_string).collect();
            let wanted = Metanet {
                id: Some(args.metanet.name()),
                name: args.name.clone(),
                admit_up_to: args.admit_up_to.map(|rate| rate.0),
                allow: macs(&args.allow),
                deny: macs(&args.deny),
                multipoint: args.multipoint,
                ..Metanet::default()
            };
            args.api.access().await?.put_metanet(wanted).await.map_err(refused)?;
            let admits = match args.admit_up_to {
                Some(rate) => format!("admits up to {rate} an endpoint"),
                None => "admits whom its operator admits".into(),
            };
            println!("metanet {} ({}) {admits}", shown(&args.metanet.name()), args.name);
        }
        MetanetCommand::Serve(args) => serve_cmd::run(args).await?,
        MetanetCommand::Delete { metanet, api } => {
            api.access().await?.delete_metanet(metanet.name()).await.map_err(refused)?;
            println!("metanet {} is deleted", shown(&metanet.name()));
        }
    }
    Ok(())
}

/// Runs `dmux access-link`.
pub async fn access_link(args: AccessLinkArgs) -> anyhow::Result<()> {
    match args.command {
        AccessLinkCommand::Put(args) => {
            let wanted = AccessLink {
                id: Some(args.link.name()),
                capacity: args.capacity.0,
                endpoint_maximum: args.endpoint_maximum.unwrap_or(args.capacity).0,
                short_lease_ms: u64::from(args.short_lease) * 1000,
                long_lease_ms: u64::from(args.long_lease) * 1000,
                authenticate: args.authenticate,
                out_of_profile: args.out_of_profile.to_string(),
                ..AccessLink::default()
            };
            args.api.access().await?.put_access_link(wanted).await.map_err(refused)?;
            println!("access link {} of gateway {}: {}", args.link.name, args.link.gateway, args.capacity);
        }
        AccessLinkCommand::Remove { link, api } => {
            api.access().await?.remove_access_link(link.name()).await.map_err(refused)?;
            println!("access link {} of gateway {} is removed", link.name, link.gateway);
        }
    }
    Ok(())
}

/// Runs `dmux metalink`.
pub async fn metalink(args: MetalinkArgs) -> anyhow::Result<()> {
    let metalink = match args.command {
        MetalinkCommand::Claim(args) => {
            let wanted = ClaimMetalinkRequest {
                link: Some(AccessLinkName { gateway: args.gateway.into(), name: args.link }),
                port: args.port.into(),
                mac: args.mac.to_string(),
                metanet: Some(args.metanet.name()),
                rate: args.rate.0,
                lease: args.lease.to_string(),
                request: 0,
            };
            args.api.access().await?.claim_metalink(wanted).await.map_err(refused)?.into_inner()
        }
        MetalinkCommand::Renew { metalink, api } => {
            api.access().await?.renew_metalink(metalink.name()).await.map_err(refused)?.into_inner()
        }
        MetalinkCommand::Adjust { metalink, rate, api } => {
            let wanted = AdjustMetalinkRequest { id: Some(metalink.name()), rate: rate.0 };
            api.access().await?.adjust_metalink(wanted).await.map_err(refused)?.into_inner()
        }
        MetalinkCommand::Revoke { metalink, api } => {
            api.access().await?.revoke_metalink(metalink.name()).await.map_err(refused)?;
            println!("metalink {} of gateway {} is gone", metalink.mli, metalink.gateway);
            return Ok(());
        }
    };
    println!("{}", described(&metalink));
    if !metalink.not_programmed.is_empty() {
        println!("not in the switch yet: {}", metalink.not_programmed);
    }
    Ok(())
}

fn described(metalink: &Metalink) -> String {
    let MetalinkName { gateway, mli } = metalink.id.unwrap_or_default();
    format!(
        "metalink {mli} of gateway {gateway}: {} to metanet {}, {}, {}-term, ends {}",
        metalink.mac,
        metalink.metanet.as_ref().map_or_else(String::new, shown),
        Rate(metalink.rate),
        metalink.lease,
        in_time(metalink.until_ms)
    )
}

/// A metanet's protocol, and its provider if it is one provider's.
pub fn shown(name: &MetanetName) -> String {
    match name.provider {
        0 | 1 => name.protocol.to_string(),
        provider => format!("{}/{provider}", name.protocol),
    }
}
