//! A run: everything that was asked for, one group after the other, and the report.

use crate::bench::Bench;
use crate::options::{Group, Measure};
use crate::report::{Machine, Report};
use crate::{
    backlog, bulk, fanout, growth, instead, keyed, latency, memory, plot, polling, single,
};

/// Measures, prints the table, writes the files.
pub async fn run(measure: &Measure) -> anyhow::Result<()> {
    let mut bench = Bench::start(measure).await?;
    let outcome = measure_groups(&mut bench, measure).await;
    let machine = Machine::read(&bench).await;
    let Bench { postgres, figures, size, .. } = bench;
    postgres.stop().await?;
    outcome?;
    let report = Report::new(machine?, size, &figures);
    print!("{}", report.table());
    let json = measure.out.join("bench.json");
    std::fs::write(&json, serde_json::to_vec_pretty(&report)?)?;
    let svg = measure.out.join("bench.svg");
    plot::draw(&report.targets, &svg)?;
    println!("\nwritten: {} and {}", json.display(), svg.display());
    Ok(())
}

async fn measure_groups(bench: &mut Bench, measure: &Measure) -> anyhow::Result<()> {
    // First, while nothing has used any memory.
    if measure.wants(Group::Memory) {
        memory::measure(bench).await?;
    }
    if measure.wants(Group::Bulk) {
        bulk::measure(bench).await?;
    }
    if measure.wants(Group::Backlog) {
        backlog::measure(bench).await?;
    }
    if measure.wants(Group::Keyed) {
        keyed::measure(bench).await?;
    }
    if measure.wants(Group::Single) {
        single::measure(bench).await?;
    }
    if measure.wants(Group::Instead) {
        instead::measure(bench, measure.python.as_deref()).await?;
    }
    if measure.wants(Group::Latency) {
        latency::measure(bench).await?;
    }
    if measure.wants(Group::Fanout) {
        fanout::measure(bench).await?;
    }
    if measure.wants(Group::Growth) {
        growth::measure(bench).await?;
    }
    if measure.wants(Group::Polling) {
        polling::measure(bench).await?;
    }
    Ok(())
}
