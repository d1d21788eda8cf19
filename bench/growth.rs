use crate::run::Bench;
pub const MANY_STREAMS: &str = "growthMANY_STREAMS";
pub const ONE_STREAM: &str = "growthONE_STREAM";
pub const LARGE_TABLE: &str = "growthLARGE_TABLE";
pub const EMPTY_TABLE: &str = "growthEMPTY_TABLE";
pub async fn measure(_: &mut Bench) -> anyhow::Result<()> {
    Ok(())
}
