//! The parts of a P4Info that bindings are made of.
//!
//! A build script cannot use `dmux-p4rt` without building the whole gRPC stack a second time, for the host; these few
//! messages (numbers from `proto/p4/config/v1/p4info.proto`) are all that is needed.

use std::path::Path;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::Error;

#[derive(Clone, PartialEq, Message)]
pub struct P4Info {
    #[prost(message, repeated, tag = "2")]
    pub tables: Vec<Table>,
    #[prost(message, repeated, tag = "3")]
    pub actions: Vec<Action>,
    #[prost(message, repeated, tag = "5")]
    pub counters: Vec<Array>,
    #[prost(message, repeated, tag = "6")]
    pub direct_counters: Vec<Direct>,
    #[prost(message, repeated, tag = "7")]
    pub meters: Vec<Array>,
    #[prost(message, repeated, tag = "9")]
    pub headers: Vec<Header>,
    #[prost(message, repeated, tag = "11")]
    pub registers: Vec<Array>,
    #[prost(message, repeated, tag = "12")]
    pub digests: Vec<Digest>,
    #[prost(message, optional, tag = "200")]
    pub type_info: Option<TypeInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Preamble {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub alias: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Table {
    #[prost(message, required, tag = "1")]
    pub preamble: Preamble,
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<MatchField>,
    #[prost(message, repeated, tag = "3")]
    pub actions: Vec<ActionRef>,
    #[prost(int64, tag = "8")]
    pub size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct MatchField {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub annotations: Vec<String>,
    #[prost(uint32, tag = "4")]
    pub bits: u32,
    #[prost(int32, tag = "5")]
    pub kind: i32,
}

pub const EXACT: i32 = 2;
pub const LPM: i32 = 3;
pub const TERNARY: i32 = 4;

#[derive(Clone, PartialEq, Message)]
pub struct ActionRef {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(int32, tag = "3")]
    pub scope: i32,
}

impl ActionRef {
    /// Scopes TABLE_AND_DEFAULT and TABLE_ONLY.
    pub fn in_entries(&self) -> bool {
        self.scope == 0 || self.scope == 1
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Action {
    #[prost(message, required, tag = "1")]
    pub preamble: Preamble,
    #[prost(message, repeated, tag = "2")]
    pub params: Vec<Param>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Param {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub annotations: Vec<String>,
    #[prost(uint32, tag = "4")]
    pub bits: u32,
}

/// An indirect counter or meter.
#[derive(Clone, PartialEq, Message)]
pub struct Array {
    #[prost(message, required, tag = "1")]
    pub preamble: Preamble,
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// A direct counter.
#[derive(Clone, PartialEq, Message)]
pub struct Direct {
    #[prost(message, required, tag = "1")]
    pub preamble: Preamble,
    #[prost(uint32, tag = "3")]
    pub table: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(message, required, tag = "1")]
    pub preamble: Preamble,
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<Param>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Digest {
    #[prost(message, required, tag = "1")]
    pub preamble: Preamble,
    #[prost(message, required, tag = "2")]
    pub type_spec: DataType,
}

/// A bit string or a struct: what members and messages of our digests are.
#[derive(Clone, PartialEq, Message)]
pub struct DataType {
    #[prost(message, optional, tag = "1")]
    pub bits: Option<BitString>,
    #[prost(message, optional, tag = "4")]
    pub of_struct: Option<NamedType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct BitString {
    #[prost(message, optional, tag = "1")]
    pub unsigned: Option<Bits>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Bits {
    #[prost(uint32, tag = "1")]
    pub width: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct NamedType {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct TypeInfo {
    #[prost(btree_map = "string, message", tag = "1")]
    pub structs: std::collections::BTreeMap<String, Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Member {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, required, tag = "2")]
    pub type_spec: DataType,
}

pub fn parse(text: &str, proto: &Path) -> Result<P4Info, Error> {
    let files = protox::compile(["p4/config/v1/p4info.proto"], [proto])?;
    let pool = DescriptorPool::from_file_descriptor_set(files)?;
    let descriptor = pool.get_message_by_name("p4.config.v1.P4Info").ok_or("p4info.proto does not define P4Info")?;
    let message = DynamicMessage::parse_text_format(descriptor, text)?;
    Ok(P4Info::decode(message.encode_to_vec().as_slice())?)
}

impl P4Info {
    pub fn action(&self, id: u32) -> Result<&Action, Error> {
        self.actions
            .iter()
            .find(|a| a.preamble.id == id)
            .ok_or_else(|| format!("the P4Info has no action {id:#010x}").into())
    }

    /// The members of a digest's messages, with their widths.
    pub fn members(&self, digest: &Digest) -> Result<Vec<(String, u32)>, Error> {
        let name = &digest.preamble.name;
        let of = digest.type_spec.of_struct.as_ref().and_then(|of| self.type_info.as_ref()?.structs.get(&of.name));
        let of = of.ok_or_else(|| format!("the digest {name} is none of a struct that the P4Info describes"))?;
        let width = |member: &Member| member.type_spec.bits.as_ref()?.unsigned.as_ref().map(|bits| bits.width);
        let member = |member: &Member| width(member).map(|bits| (member.name.clone(), bits));
        let members: Option<Vec<_>> = of.members.iter().map(member).collect();
        members.ok_or_else(|| format!("the digest {name} has a member that is no bit<W>").into())
    }
}
