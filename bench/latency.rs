use crate::arrival;
use crate::run::Bench;
pub const ACKNOWLEDGED_P99: &str = "latencyACKNOWLEDGED_P99";
pub const L3_P99: &str = "latencyL3_P99";
pub const L4_P99: &str = "latencyL4_P99";
pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let gateway = bench.site.start(&[]).await?;
    for round in 0..bench.size.rounds {
        arrival::measure(bench, round, &gateway).await?;
    }
    gateway.stop().await
}
