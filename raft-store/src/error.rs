//! Typed errors. Each says what happened and what a person can do about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The advice for a directory that must not be used any more.
const REJOIN: &str = "a directory is never repaired or reset, because a voter that forgets breaks the cluster: move it away and \
     start this node under a new node id with --join (and --replaces for the old id)";

/// Why a store did not open, or stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A value in [`crate::StoreConfig`] makes no sense.
    #[error("the store's configuration is wrong: {0}")]
    Config(String),
    /// An empty directory with [`crate::Start::Existing`].
    #[error(
        "{dir} holds no store: for the first start of a new cluster use --bootstrap; a node whose directory was lost comes back \
         under a new node id with --join"
    )]
    Empty {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory that was created, and whose node never became a member, with [`crate::Start::Existing`].
    #[error(
        "{dir} was created and its node never became a member: start it with the --bootstrap or --join that it was first started with"
    )]
    NeverStarted {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another node.
    #[error(
        "{dir} belongs to node {found}, not to node {wanted}: give each node its own directory, or correct the node id"
    )]
    WrongNode {
        /// The directory.
        dir: PathBuf,
        /// Node id on disk.
        found: u64,
        /// Node id configured.
        wanted: u64,
    },
    /// Another process has the directory open.
    #[error("{dir} is in use by another process: stop that one first, or give this node its own directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was written by a newer version.
    #[error("{dir} has format {found}, and this program reads formats up to {supported}: use the newer program")]
    Format {
        /// The directory.
        dir: PathBuf,
        /// Version on disk.
        found: u32,
        /// Newest version that is understood.
        supported: u32,
    },
    /// What is on disk cannot be what was written.
    #[error("{dir} is damaged ({what}): {}", REJOIN)]
    Corrupt {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The operating system refused.
    #[error("{step} {dir}: {error}")]
    Io {
        /// What was tried.
        step: OpenStep,
        /// On what.
        dir: PathBuf,
        /// What the system said.
        error: String,
    },
    /// The listener could not be bound.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// Address asked for.
        addr: SocketAddr,
        /// What the system said.
        error: String,
    },
    /// A non-loopback address without TLS (DESIGN §8).
    #[error(
        "{addr} is not a loopback address, and no TLS is configured: give a certificate, key and authority, or use 127.0.0.1"
    )]
    NeedsTls {
        /// The address.
        addr: String,
    },
    /// The TLS material does not work.
    #[error("the TLS configuration is unusable: {0}")]
    Tls(String),
    /// Peers remember this node id with another directory.
    #[error("node {peer} refuses node {id}: it knows that id with another directory. {}", REJOIN)]
    Forgotten {
        /// This node.
        id: u64,
        /// The peer that refused.
        peer: u64,
    },
    /// A member refused the join for good.
    #[error("joining was refused: {0}")]
    JoinRefused(String),
    /// openraft stopped.
    #[error("raft stopped: {0}")]
    Raft(String),
}

/// What a failed system call was part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenStep {
    /// Creating the directory.
    Create,
    /// Opening the database.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making writes durable.
    Sync,
}

impl std::fmt::Display for OpenStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OpenStep::Create => "cannot create",
            OpenStep::Open => "cannot open",
            OpenStep::Read => "cannot read",
            OpenStep::Write => "cannot write",
            OpenStep::Sync => "cannot make durable",
        })
    }
}

/// Why a proposal was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The deadline passed before any leader took the command: it was not applied and will not be.
    #[error(
        "no leader took the command within {within:?} (last: {last}): a majority of the voters must be up and reachable"
    )]
    NoLeader {
        /// The deadline given.
        within: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// The deadline passed while a leader had the command: it may or may not be applied.
    #[error("the command was not confirmed within {within:?}: it may still be applied later (last: {last})")]
    Unknown {
        /// The deadline given.
        within: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// The command is too large to replicate.
    #[error("the command has {size} bytes, the limit is {max}")]
    TooLarge {
        /// Encoded size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The command does not encode, or the reply or the command does not decode (different versions of the program).
    #[error("the command or its reply does not encode: {0}: do all members run the same version?")]
    Codec(String),
    /// This node has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

/// Why a linearizable read could not be promised.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No majority confirmed a leader in time.
    #[error("no majority confirmed the state within {within:?} (last: {last}); read() still serves this node's copy")]
    NoQuorum {
        /// The deadline given.
        within: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// This node has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

/// Why a change of membership did not happen.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The cluster said no, and would again.
    #[error("the membership change was refused: {0}")]
    Refused(String),
    /// No leader carried it out in time; it may still happen.
    #[error("the membership change was not confirmed within {within:?} (last: {last})")]
    Timeout {
        /// The deadline given.
        within: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// This node has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}
