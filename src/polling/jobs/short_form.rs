//! The short form of a job: `{"userId","apiEndpoint","pollingInterval"}`, and perhaps a stream. Each of its members is one
//! of the full form, but for the user's.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::asked::{AskedJob, ChangeError, checked_words};
use super::members::{Invalid, Members, invalid};
use super::schedule::Schedule;
use crate::db::polling_jobs::JobRow;
use crate::outbound::Sealer;

impl AskedJob {
    /// A new job.
    pub fn take_short(members: Map<String, Value>) -> Result<AskedJob, Invalid> {
        let mut members = Members::new(members);
        let user_id = match members.take::<Value>("userId")? {
            Some(Value::String(user_id)) => checked_words("/userId", user_id)?,
            Some(Value::Number(user_id)) => user_id.to_string(),
            _ => return Err(invalid("/userId", "is needed, as text: for whom the job is")),
        };
        let full = full_form(&mut members)?;
        for (name, place, message) in [
            ("url", "/apiEndpoint", "is needed: the address to ask"),
            (
                "interval_ms",
                "/pollingInterval",
                "is needed: the milliseconds from one question to the next",
            ),
        ] {
            if !full.contains_key(name) {
                return Err(invalid(place, message));
            }
        }
        members.finish()?;
        let asked = AskedJob::take(full).map_err(with_short_place)?;
        Ok(AskedJob { user_id: Some(user_id), ..asked })
    }

    /// The job of a row after a JSON merge patch of the short form.
    pub fn patched_short(
        row: &JobRow,
        patch: Map<String, Value>,
        sealer: &Sealer,
    ) -> Result<AskedJob, ChangeError> {
        let mut members = Members::new(patch);
        let full = full_form(&mut members)?;
        members.finish()?;
        AskedJob::patched(row, full, sealer).map_err(|error| match error {
            // The short form has them in the address.
            ChangeError::Invalid(error) if error.place.starts_with("/secret_headers") => {
                let message = "is another scheme, host or port than the credentials were given for: give them again";
                invalid("/apiEndpoint", message).into()
            }
            ChangeError::Invalid(error) => with_short_place(error).into(),
            error @ ChangeError::Sealed(_) => error,
        })
    }

    /// What tells a job in the short form from the others of its owner.
    pub fn short_key(&self) -> Option<Vec<u8>> {
        let user_id = self.user_id.as_ref()?;
        let mut hash = Sha256::new();
        hash.update(user_id.len().to_le_bytes());
        hash.update(user_id);
        hash.update(self.definition.url.to_string());
        Some(hash.finalize().to_vec())
    }
}

/// The members of the full form that stand for those that are there.
fn full_form(members: &mut Members) -> Result<Map<String, Value>, Invalid> {
    let mut full = Map::new();
    if let Some(url) = members.take::<String>("apiEndpoint")? {
        full.insert("url".to_owned(), url.into());
    }
    let interval: Option<serde_json::Number> = members.take("pollingInterval")?;
    if let Some(ms) = interval {
        let every = Schedule::every("/pollingInterval", ms.as_i128().unwrap_or_default())?;
        full.insert("interval_ms".to_owned(), every.interval_ms().into());
    }
    if let Some(stream) = members.take::<String>("stream")? {
        full.insert("stream".to_owned(), stream.into());
    }
    Ok(full)
}

fn with_short_place(error: Invalid) -> Invalid {
    if error.place == "/url" { invalid("/apiEndpoint", error.message) } else { error }
}
