use crate::run::Bench;
pub const DELIVERED: &str = "fanoutDELIVERED";
pub const ONE_A_FRAME: &str = "fanoutONE_A_FRAME";
pub async fn measure(_: &mut Bench) -> anyhow::Result<()> {
    Ok(())
}
