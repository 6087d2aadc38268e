//! The program that a switch starts with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use dmux_p4rt::P4Info;
use dmux_p4rt::p4::config::v1;

#[derive(Debug, Args)]
pub struct ProgramArgs {
    /// A program to load at the start: the BMv2 JSON that p4c writes. Without one the switch drops everything until a
    /// controller loads a program.
    ///
    /// Without --p4info its tables keep what the program itself says (const entries, default actions): controllers
    /// cannot name them until one loads a configuration.
    #[arg(value_name = "JSON", conflicts_with = "pipeline")]
    json: Option<PathBuf>,
    /// The program's P4Info in text format (p4c --p4runtime-files), so that controllers can use its tables at once.
    #[arg(long, value_name = "FILE", requires = "json")]
    p4info: Option<PathBuf>,
    /// Both at once: PREFIX.json and PREFIX.p4info.txtpb.
    #[arg(long, value_name = "PREFIX")]
    pipeline: Option<PathBuf>,
    /// Start without a program, as is the default.
    #[arg(long, hide = true, conflicts_with_all = ["json", "pipeline"])]
    no_p4: bool,
}

impl ProgramArgs {
    /// P4Info and JSON, if a program was named.
    pub fn read(&self) -> anyhow::Result<Option<(v1::P4Info, Vec<u8>)>> {
        let (json, p4info) = match (&self.pipeline, &self.json) {
            (Some(prefix), _) => {
                let (json, p4info) = pair(prefix)?;
                (json, Some(p4info))
            }
            (None, Some(json)) => (json.clone(), self.p4info.clone()),
            (None, None) => return Ok(None),
        };
        let p4info = p4info.as_deref().map(read_p4info).transpose()?.unwrap_or_default();
        let json = std::fs::read(&json).with_context(|| format!("the program {} cannot be read", json.display()))?;
        Ok(Some((p4info, json)))
    }
}

fn pair(prefix: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let with = |suffix: &str| {
        let mut name: OsString = prefix.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (json, p4info) = (with(".json"), with(".p4info.txtpb"));
    if !json.exists() && !p4info.exists() {
        bail!(
            "--pipeline {}: neither {} nor {} is there; give the path of both files without their endings, such as bmv2-configs/gateway",
            prefix.display(),
            json.display(),
            p4info.display()
        );
    }
    Ok((json, p4info))
}

fn read_p4info(path: &Path) -> anyhow::Result<v1::P4Info> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("the P4Info {} cannot be read", path.display()))?;
    let p4info = P4Info::from_text(&text).with_context(|| {
        format!("{} is not a P4Info in text format (p4c writes it with --p4runtime-files)", path.display())
    })?;
    Ok(p4info.raw().clone())
}
