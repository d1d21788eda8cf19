//! `tidegate journal verify`: is every byte as it was written?

use std::process::ExitCode;

use tidegate_journal::{Finding, SurveyError, UnreadRange};

use super::What;
use crate::config::DataDir;

/// Something is damaged.
const DAMAGED: u8 = 1;
/// It could not be read, so nothing can be said.
const UNREADABLE: u8 = 2;

#[derive(Default)]
struct Verified {
    files: u64,
    entries: u64,
    bytes: u64,
    damages: u64,
}

pub(super) fn run(what: &What, data: &DataDir) -> ExitCode {
    match verify(what, data) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DAMAGED),
        Err(error) => {
            eprintln!("tidegate: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn verify(what: &What, data: &DataDir) -> Result<bool, SurveyError> {
    let survey = what.survey(data)?;
    let mut verified = Verified::default();
    survey.visit(|finding| {
        verified.note(&finding);
        Ok::<(), SurveyError>(())
    })?;
    let Verified { files, entries, bytes, damages } = verified;
    println!("{entries} entries in {files} file(s), {bytes} bytes, read and checked");
    for (path, length) in survey.set_aside() {
        println!("set aside by an earlier start: {} ({length} bytes)", path.display());
    }
    match damages {
        0 => println!("sound"),
        count => println!("DAMAGED in {count} place(s)"),
    }
    Ok(damages == 0)
}

impl Verified {
    fn note(&mut self, finding: &Finding<'_>) {
        match finding {
            Finding::File { .. } => self.files += 1,
            Finding::Entry(entry) => {
                self.entries += 1;
                self.bytes += entry.header.end.0 - entry.header.position.0;
            }
            Finding::Damage(part) => {
                self.damages += 1;
                println!("damaged: {}", describe(part));
            }
            Finding::Tail { is_blank: true, .. } => {}
            Finding::Tail { part, is_blank: false } => println!(
                "torn end: {}; a write that was never acknowledged, or is under way (damage to the very last group looks the same)",
                describe(part)
            ),
        }
    }
}

/// Where it is and why.
fn describe(part: &UnreadRange<'_>) -> String {
    let UnreadRange { from, to, reason, file, .. } = part;
    let bytes = to.0 - from.0;
    match file {
        Some(file) => format!(
            "positions {from} to {to}, {bytes} bytes at byte {} of {}: {reason}",
            part.offset(),
            file.path.display()
        ),
        None => format!("positions {from} to {to}, {bytes} bytes that no file has: {reason}"),
    }
}
