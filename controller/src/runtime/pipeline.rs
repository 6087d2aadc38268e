//! The compiled program that a controller loads into its switch.

use std::fs;
use std::path::{Path, PathBuf};

use dmux_p4rt::P4Info;
use dmux_p4rt::p4::v1::ForwardingPipelineConfig;
use dmux_p4rt::p4::v1::forwarding_pipeline_config::Cookie;
use ring::digest;
use thiserror::Error;

/// Largest program file that is read.
const MAX_PROGRAM_BYTES: u64 = 16 << 20;

/// Why a program cannot be used.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A file cannot be read.
    #[error(
        "{path}: {source}; `switch.pipeline` is the common prefix of a .json and a .p4info.txtpb, such as bmv2-configs/gateway"
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no program.
    #[error("{path} has {size} bytes; a program has at most {MAX_PROGRAM_BYTES}")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// The P4Info is not one.
    #[error("{path}: {source}")]
    P4Info {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: dmux_p4rt::p4info::P4InfoError,
    },
    /// The P4Info is of another program than this controller was built for.
    #[error(
        "{path} is not the gateway program that this controller was built for: {what}; use the bmv2-configs/ of the same version"
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
}

/// A program with its cookie.
#[derive(Debug)]
pub struct Pipeline {
    p4info: P4Info,
    json: Vec<u8>,
    cookie: u64,
}

impl Pipeline {
    /// Reads `<prefix>.json` and `<prefix>.p4info.txtpb`.
    pub fn read(prefix: &Path) -> Result<Self, PipelineError> {
        let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", prefix.display()));
        let (json_path, p4info_path) = (with(".json"), with(".p4info.txtpb"));
        let json = read(&json_path)?;
        let text = read(&p4info_path)?;
        let p4info = P4Info::from_text(&String::from_utf8_lossy(&text))
            .map_err(|source| PipelineError::P4Info { path: p4info_path.clone(), source })?;
        if let Some(what) = foreign(&p4info) {
            return Err(PipelineError::Foreign { path: p4info_path, what });
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&(json.len() as u64).to_be_bytes());
        hash.update(&json);
        hash.update(&text);
        let hash = hash.finish();
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&hash.as_ref()[..8]);
        Ok(Self { p4info, json, cookie: u64::from_be_bytes(cookie) })
    }

    /// A hash of the program: equal cookies mean equal programs, so a switch that runs ours is left alone.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The P4Info.
    pub fn p4info(&self) -> &P4Info {
        &self.p4info
    }

    /// What a switch is sent.
    pub fn to_config(&self) -> ForwardingPipelineConfig {
        ForwardingPipelineConfig {
            p4info: Some(self.p4info.raw().clone()),
            p4_device_config: self.json.clone(),
            cookie: Some(Cookie { cookie: self.cookie }),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PipelineError> {
    let error = |source| PipelineError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(error)?.len();
    if size > MAX_PROGRAM_BYTES {
        return Err(PipelineError::TooLarge { path: path.to_owned(), size });
    }
    fs::read(path).map_err(error)
}

/// The bindings were generated from one P4Info; tables that are missing or changed in this one would be written wrongly.
fn foreign(p4info: &P4Info) -> Option<String> {
    let built_for = match P4Info::from_text(dmux_tables::P4INFO_TEXT) {
        Ok(info) => info,
        Err(error) => return Some(format!("the one built in does not parse: {error}")),
    };
    let table = built_for.tables().iter().find_map(|table| match p4info.table(table.id) {
        None => Some(format!("it has no table {} with id {}", table.name, table.id)),
        Some(other) if other != table => Some(format!("its table {} is another", table.name)),
        Some(_) => None,
    });
    // Their messages are read by position.
    let digests = |info: &P4Info| {
        let structs = info.raw().type_info.as_ref().map(|types| types.structs.clone());
        (info.raw().digests.clone(), structs)
    };
    table.or_else(|| (digests(&built_for) != digests(p4info)).then(|| "its digests are others".to_owned()))
}
