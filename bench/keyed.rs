use crate::run::Bench;
pub const KEYED: &str = "keyedKEYED";
pub const UNKEYED: &str = "keyedUNKEYED";
pub async fn measure(_: &mut Bench) -> anyhow::Result<()> {
    Ok(())
}
