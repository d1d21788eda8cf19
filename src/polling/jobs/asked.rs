//! A job as a person asks for it.

use serde_json::{Map, Value};
use tidegate_codec::StreamName;
use tidegate_record::UnixMicros;
use uuid::Uuid;

use super::definition::Definition;
use super::destination::stream_of;
use super::members::{Invalid, Members, invalid, merge};
use super::schedule::Schedule;
use crate::db::polling_jobs::JobRow;
use crate::outbound::{Endpoint, OpenError, SealedHeaders, Sealer, Secrets, may_see_secrets};

/// Longest name of a job, and longest `userId` of the short form, in bytes.
const JOB_NAME_BYTES_MAX: usize = 200;

/// A job as it was asked for, checked.
#[derive(Debug)]
pub struct AskedJob {
    pub name: String,
    /// Name of the user whose job it shall be; None: the caller's.
    pub owner: Option<String>,
    pub stream: StreamName,
    pub paused: bool,
    pub schedule: Schedule,
    pub definition: Definition,
    /// Those that were given now, and those that are kept.
    pub secrets: Secrets,
    /// Some were given now. They count as others than before, even if they are the same.
    pub has_new_secrets: bool,
    /// Of a job in the short form: for whom it is.
    pub user_id: Option<String>,
}

/// Why a job cannot be changed so.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Sealed(#[from] OpenError),
}

impl AskedJob {
    /// The full form.
    pub fn take(members: Map<String, Value>) -> Result<AskedJob, Invalid> {
        let mut members = Members::new(members);
        let (name, owner) = (members.take::<String>("name")?, members.take("owner")?);
        let stream = members.take::<String>("stream")?;
        let paused = members.take("paused")?.unwrap_or_default();
        let schedule = Schedule::take(&mut members)?;
        let (definition, secrets) = Definition::take(&mut members)?;
        members.finish()?;
        let stream = stream_of(stream, &definition)?;
        let name = match name {
            Some(name) => checked_words("/name", name)?,
            None => stream.to_string(),
        };
        check_text(&definition)?;
        Ok(AskedJob {
            name,
            owner,
            stream,
            paused,
            schedule,
            definition,
            has_new_secrets: !secrets.is_empty(),
            secrets,
            user_id: None,
        })
    }

    /// The job of a row after a JSON merge patch of the full form.
    pub fn patched(
        row: &JobRow,
        patch: Map<String, Value>,
        sealer: &Sealer,
    ) -> Result<AskedJob, ChangeError> {
        if patch.contains_key("owner") {
            return Err(invalid("/owner", "does not change").into());
        }
        let mut members = object(&row.definition.0);
        members.extend(object(&row.schedule.0));
        members.insert("name".to_owned(), row.name.clone().into());
        members.insert("stream".to_owned(), row.stream.clone().into());
        members.insert("paused".to_owned(), row.paused.into());
        for (given, other) in [("cron", &["interval_ms"][..]), ("interval_ms", &["cron", "zone"])] {
            if patch.get(given).is_some_and(|value| !value.is_null()) {
                members.retain(|name, _| !other.contains(&name.as_str()));
            }
        }
        merge(&mut members, patch);
        let mut asked = AskedJob::take(members)?;
        asked.add_kept_secrets(row, sealer)?;
        asked.user_id.clone_from(&row.user_id);
        Ok(asked)
    }

    /// All secrets, sealed for this job.
    pub fn sealed(&self, job: Uuid, sealer: &Sealer) -> Option<SealedHeaders> {
        (!self.secrets.is_empty()).then(|| sealer.seal(job, &self.secrets))
    }

    /// A new job has no secrets that could be kept.
    pub fn check_new(&self) -> Result<(), Invalid> {
        let given = self.secrets.names();
        match self.definition.secret_headers.iter().find(|name| !given.contains(name)) {
            None => Ok(()),
            Some(name) => Err(invalid("/secret_headers", format!("{name} needs a value"))),
        }
    }

    /// When a new job, or one whose schedule changed, is due. None: at once.
    pub fn first_due(&self, job: Uuid, now: UnixMicros) -> Option<UnixMicros> {
        match self.schedule {
            Schedule::Interval { .. } => None,
            Schedule::Cron(_) => Some(self.schedule.next(now, now, job)),
        }
    }

    /// Is this the job as it is? Secrets that were given are never compared with the sealed ones, or the answer would tell
    /// when a guess is right.
    pub fn changes_nothing(&self, row: &JobRow) -> bool {
        serde_json::to_value(&self.definition).ok().as_ref() == Some(&row.definition.0)
            && serde_json::to_value(&self.schedule).ok().as_ref() == Some(&row.schedule.0)
            && (&self.name, self.stream.as_str(), self.paused)
                == (&row.name, &row.stream, row.paused)
            && !self.has_new_secrets
    }

    /// Names without values are of secrets that the job has already.
    fn add_kept_secrets(&mut self, row: &JobRow, sealer: &Sealer) -> Result<(), ChangeError> {
        let given = self.secrets.names();
        let kept: Vec<String> = self
            .definition
            .secret_headers
            .iter()
            .filter(|name| !given.contains(name))
            .cloned()
            .collect();
        let Some(first) = kept.first() else { return Ok(()) };
        // Else a user who may change the job could have them sent to an address of their own.
        let url: Option<Endpoint> = serde_json::from_value(row.definition.0["url"].clone()).ok();
        if !url.is_some_and(|url| may_see_secrets(&url, &self.definition.url)) {
            let message = format!(
                "{first} was given for another address (scheme, host and port): give it again, or leave it out"
            );
            return Err(invalid(format!("/secret_headers/{first}"), message).into());
        }
        let before = match &row.sealed {
            Some(sealed) => sealer.open(row.id, &SealedHeaders(sealed.clone()))?,
            None => Secrets::default(),
        };
        if let Some(name) = kept.iter().find(|name| !before.names().contains(name)) {
            let message = format!("{name} has no value that could be kept; give it one");
            return Err(invalid("/secret_headers", message).into());
        }
        self.secrets = before.keep_and_add(&kept, std::mem::take(&mut self.secrets));
        Ok(())
    }
}

/// A job's number: numbers made later are larger.
pub fn new_job_id(now: UnixMicros) -> Uuid {
    let milliseconds = u64::try_from(now.0 / 1_000).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

pub(super) fn checked_words(place: &str, text: String) -> Result<String, Invalid> {
    if text.trim().is_empty()
        || text.len() > JOB_NAME_BYTES_MAX
        || text.chars().any(char::is_control)
    {
        let message = format!("must be 1 to {JOB_NAME_BYTES_MAX} bytes without control characters");
        return Err(invalid(place, message));
    }
    Ok(text)
}

/// The one character that PostgreSQL cannot keep.
fn check_text(definition: &Definition) -> Result<(), Invalid> {
    let text = serde_json::to_string(definition).unwrap_or_default();
    if text.contains("\\u0000") {
        return Err(invalid("", "a NUL character (\\u0000) cannot be stored"));
    }
    Ok(())
}
