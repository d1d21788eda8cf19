//! `tidegate journal inspect`: what the journal holds, for an operator who needs to know it quickly.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use tidegate_codec::decode::write_rfc3339;
use tidegate_journal::{Entry, Finding, SurveyError};
use tidegate_record::{EntryKind, Position, StreamId, UnixMicros};
use uuid::Uuid;

use super::{What, file_name};
use crate::catalog;
use crate::config::DataDir;

/// Everything, in the form of `--json`.
#[derive(Debug, Serialize)]
struct Inspected {
    id: Option<Uuid>,
    path: PathBuf,
    first: Option<Position>,
    last: Option<Position>,
    bytes: u64,
    contents: Contents,
    segments: Vec<Segment>,
    streams: BTreeMap<String, Contents>,
    damages: Vec<Damage>,
    set_aside: Vec<SetAside>,
}

/// Counts of entries and what is in them.
#[derive(Debug, Default, Serialize)]
struct Contents {
    entries: u64,
    records: u64,
    quarantined: u64,
    bytes: u64,
    received_first: Option<Moment>,
    received_last: Option<Moment>,
}

#[derive(Debug, Serialize)]
struct Segment {
    file: String,
    first: Position,
    /// End of the last entry.
    last: Position,
    /// On disk, with what is reserved.
    bytes: u64,
    contents: Contents,
    damages: u64,
}

#[derive(Debug, Serialize)]
struct Damage {
    from: Position,
    to: Position,
    file: Option<PathBuf>,
    offset: u64,
    reason: &'static str,
}

#[derive(Debug, Serialize)]
struct SetAside {
    path: PathBuf,
    bytes: u64,
}

/// A time in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(UnixMicros);

pub(super) fn run(what: &What, data: &DataDir, json: bool) -> anyhow::Result<()> {
    let survey = what.survey(data)?;
    let names: BTreeMap<StreamId, String> = catalog::mirrored_streams(&data.data_dir)
        .unwrap_or_default()
        .into_iter()
        .map(|stream| (stream.id, stream.name.to_string()))
        .collect();
    let mut inspected = Inspected {
        id: survey.id(),
        path: what.place(data),
        first: None,
        last: None,
        bytes: 0,
        contents: Contents::default(),
        segments: Vec::new(),
        streams: BTreeMap::new(),
        damages: Vec::new(),
        set_aside: Vec::new(),
    };
    survey.visit(|finding| {
        inspected.note(finding, &names);
        Ok::<(), SurveyError>(())
    })?;
    let set_aside = survey.set_aside().iter().cloned();
    inspected.set_aside = set_aside.map(|(path, bytes)| SetAside { path, bytes }).collect();
    if json {
        let text = serde_json::to_string_pretty(&inspected).context("cannot write JSON")?;
        println!("{text}");
    } else {
        inspected.print();
    }
    Ok(())
}

impl Inspected {
    fn note(&mut self, finding: Finding<'_>, names: &BTreeMap<StreamId, String>) {
        match finding {
            Finding::File { file, bytes } => {
                self.first = self.first.or(Some(file.first));
                self.last = self.last.max(Some(file.first));
                self.bytes += bytes;
                self.segments.push(Segment {
                    file: file_name(&file.path).into_owned(),
                    first: file.first,
                    last: file.first,
                    bytes,
                    contents: Contents::default(),
                    damages: 0,
                });
            }
            Finding::Entry(entry) => {
                self.last = Some(entry.header.end);
                self.contents.add(&entry);
                if let Some(segment) = self.segments.last_mut() {
                    segment.last = entry.header.end;
                    segment.contents.add(&entry);
                }
                let id = i32::try_from(entry.header.stream).map(StreamId);
                let known = id.ok().and_then(|id| names.get(&id).cloned());
                let name = known.unwrap_or_else(|| format!("#{}", entry.header.stream));
                self.streams.entry(name).or_default().add(&entry);
            }
            Finding::Damage(part) => {
                if let Some(segment) = self.segments.last_mut() {
                    segment.damages += 1;
                }
                self.last = self.last.max(Some(part.to));
                self.damages.push(Damage {
                    from: part.from,
                    to: part.to,
                    file: part.file.map(|file| file.path.clone()),
                    offset: part.offset(),
                    reason: part.reason,
                });
            }
            Finding::Tail { .. } => {}
        }
    }

    fn print(&self) {
        let id = self.id.map_or("unknown".to_owned(), |id| id.to_string());
        println!("journal    {id} in {}", self.path.display());
        if let (Some(first), Some(last)) = (self.first, self.last) {
            println!("positions  {first} to {last}");
        }
        let Contents { entries, records, quarantined, .. } = self.contents;
        println!("entries    {entries}, with {records} records and {quarantined} quarantined");
        println!("received   {}", self.contents.span());
        println!("disk       {} bytes in {} file(s)", self.bytes, self.segments.len());
        match self.damages.len() {
            0 => println!("damage     none"),
            count => println!("damage     {count} place(s):"),
        }
        for damage in &self.damages {
            let file = damage.file.as_deref().map_or("no file".into(), file_name);
            let Damage { from, to, offset, reason, .. } = damage;
            println!("           {from} to {to}, byte {offset} of {file}: {reason}");
        }
        for SetAside { path, bytes } in &self.set_aside {
            println!("set aside  {} ({bytes} bytes)", path.display());
        }
        self.print_tables();
    }

    fn print_tables(&self) {
        println!();
        println!(
            "{:<26} {:>16} {:>11} {:>8} {:>9} {:>7}  RECEIVED",
            "FILE", "LAST", "BYTES", "ENTRIES", "RECORDS", "DAMAGES"
        );
        for segment in &self.segments {
            let Segment { file, last, bytes, contents, damages, .. } = segment;
            let Contents { entries, records, .. } = contents;
            let span = contents.span();
            println!(
                "{file:<26} {last} {bytes:>11} {entries:>8} {records:>9} {damages:>7}  {span}"
            );
        }
        println!();
        println!(
            "{:<32} {:>8} {:>9} {:>11} {:>12}",
            "STREAM", "ENTRIES", "RECORDS", "QUARANTINED", "BYTES"
        );
        for (name, contents) in &self.streams {
            let Contents { entries, records, quarantined, bytes, .. } = contents;
            println!("{name:<32} {entries:>8} {records:>9} {quarantined:>11} {bytes:>12}");
        }
    }
}

impl Contents {
    fn add(&mut self, entry: &Entry) {
        let header = &entry.header;
        let rows = u64::from(header.rows);
        self.entries += 1;
        match EntryKind::from_code(header.kind) {
            Some(EntryKind::Quarantine) => self.quarantined += rows,
            _ => self.records += rows,
        }
        self.bytes += header.end.0 - header.position.0;
        let moment = Moment(header.received_at);
        self.received_first = Some(self.received_first.map_or(moment, |first| first.min(moment)));
        self.received_last = self.received_last.max(Some(moment));
    }

    fn span(&self) -> String {
        match (self.received_first, self.received_last) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => "-".to_owned(),
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        write_rfc3339(self.0, &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
