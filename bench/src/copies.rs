//! The weather data as files for `psql \copy`, into the same tables that the gateway writes.

use std::path::PathBuf;
use std::time::Duration;

use crate::bench::Bench;
use crate::records::{self, Records};

/// The same records as text for a table of documents, and as binary tuples for a typed one.
pub struct Copies {
    text: PathBuf,
    binary: PathBuf,
    binary_columns: String,
    /// How many records each file has.
    pub records: usize,
}

impl Copies {
    /// Writes the files; the name tells them from those of other groups.
    pub fn write(bench: &Bench, name: &str, weather: &Records) -> anyhow::Result<Copies> {
        let (text, binary) =
            (bench.dir.join(format!("{name}.copy")), bench.dir.join(format!("{name}.binary")));
        weather.write_copy_text(&text)?;
        let binary_columns = weather.write_copy_binary(&binary, records::weather_columns())?;
        Ok(Copies { text, binary, binary_columns, records: weather.len() })
    }

    /// The columns of the typed table behind its id, as a list in SQL.
    pub fn columns_after_id(&self) -> &str {
        self.binary_columns.trim_start_matches("id, ")
    }

    /// Empties the stream's table of documents, and copies the text into it.
    pub async fn as_documents(&self, bench: &Bench, stream: &str) -> anyhow::Result<Duration> {
        bench.postgres.clear(stream).await?;
        let table = format!("streams.{stream} (id, received_at, payload)");
        bench.postgres.copy(&table, &self.text, "").await
    }

    /// Empties the stream's typed table, and copies the tuples into it.
    pub async fn as_typed(&self, bench: &Bench, stream: &str) -> anyhow::Result<Duration> {
        bench.postgres.clear(stream).await?;
        let table = format!("streams.{stream} ({})", self.binary_columns);
        bench.postgres.copy(&table, &self.binary, "with (format binary)").await
    }
}
