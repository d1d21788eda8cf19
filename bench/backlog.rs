use crate::run::Bench;
pub const TYPED: &str = "backlogTYPED";
pub const L2: &str = "backlogL2";
pub const DOCUMENTS: &str = "backlogDOCUMENTS";
pub const L1: &str = "backlogL1";
pub async fn measure(_: &mut Bench) -> anyhow::Result<()> {
    Ok(())
}
