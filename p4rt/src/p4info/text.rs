//! P4Info in protobuf's text format, which is what p4c writes and people review.

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, DynamicMessage};
use thiserror::Error;

use crate::FILE_DESCRIPTOR_SET;
use crate::p4::config::v1;

/// Text that is no P4Info.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a P4Info in text format: {0}")]
pub struct TextError(String);

fn pool() -> Result<&'static DescriptorPool, TextError> {
    static POOL: OnceLock<Result<DescriptorPool, TextError>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|e| TextError(e.to_string())))
        .as_ref()
        .map_err(Clone::clone)
}

pub(super) fn parse(text: &str) -> Result<v1::P4Info, TextError> {
    let descriptor = pool()?
        .get_message_by_name("p4.config.v1.P4Info")
        .ok_or_else(|| TextError("this build lacks the descriptor of P4Info".into()))?;
    let message = DynamicMessage::parse_text_format(descriptor, text).map_err(|e| TextError(e.to_string()))?;
    message.transcode_to().map_err(|e| TextError(e.to_string()))
}
