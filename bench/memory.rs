use crate::run::Bench;
pub const IDLE: &str = "memoryIDLE";
pub const LOADED: &str = "memoryLOADED";
pub async fn measure(_: &mut Bench) -> anyhow::Result<()> {
    Ok(())
}
