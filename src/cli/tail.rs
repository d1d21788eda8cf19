//! stub until the helper's file is there
#[derive(Debug, clap::Args)]
pub struct TailArgs {}
pub async fn run(_: TailArgs) -> anyhow::Result<()> {
    Ok(())
}
