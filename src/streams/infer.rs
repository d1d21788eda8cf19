//! stub until the helper's file is there
#[derive(Debug, serde::Serialize)]
pub struct Inferred {}
pub fn infer_bytes(_: crate::sources::formats::Format, _: &[u8], _: Option<&str>) -> Result<Inferred, std::fmt::Error> { Ok(Inferred {}) }
