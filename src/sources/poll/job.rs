//! A job as a person asks for it, and as people see it.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tidegate_codec::StreamName;
use tidegate_record::UnixMicros;
use time::OffsetDateTime;
use uuid::Uuid;

use super::definition::{Definition, parse_endpoint};
use super::endpoint::Endpoint;
use super::headers::{Secrets, may_see_secrets};
use super::members::{Invalid, Members, invalid, merge};
use super::schedule::Schedule;
use super::sealer::{OpenError, SealedHeaders, Sealer};
use crate::auth::LOCAL_USER_NAME;
use crate::db::polling_jobs::JobRow;

/// Longest name of a job, and longest `userId` of the short form, in bytes.
pub const JOB_NAME_BYTES_MAX: usize = 200;

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

/// A job, as people see it: `secret_headers` are names only.
#[derive(Debug, Serialize)]
pub struct JobView {
    id: Uuid,
    name: String,
    owner: String,
    stream: String,
    paused: bool,
    /// A run is under way.
    running: bool,
    #[serde(with = "time::serde::rfc3339")]
    next_run_at: OffsetDateTime,
    /// Runs in a row that failed.
    failures: i32,
    /// Why no run comes to its end, until one does; null: as far as is known, runs do.
    unfinished: Option<String>,
    /// null: it has not run yet.
    last_run: Option<LastRun>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(flatten)]
    schedule: Value,
    #[serde(flatten)]
    definition: Value,
}

#[derive(Debug, Serialize)]
struct LastRun {
    status: String,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    error: Option<String>,
    /// New and changed items that wait for the stream's table.
    parked: i64,
}

/// A job in the short form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShortJobView {
    id: Uuid,
    user_id: String,
    api_endpoint: Value,
    /// In milliseconds; null of a job with a cron expression.
    polling_interval: Option<u64>,
    stream: String,
    #[serde(with = "time::serde::rfc3339")]
    next_run_at: OffsetDateTime,
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

    /// The short form: `{"userId","apiEndpoint","pollingInterval"}`, and perhaps a stream.
    pub fn take_short(members: Map<String, Value>) -> Result<AskedJob, Invalid> {
        let mut members = Members::new(members);
        let user_id = match members.take::<Value>("userId")? {
            Some(Value::String(user_id)) => checked_words("/userId", user_id)?,
            Some(Value::Number(user_id)) => user_id.to_string(),
            _ => return Err(invalid("/userId", "is needed, as text: for whom the job is")),
        };
        let url = members.take::<String>("apiEndpoint")?;
        let url = url.ok_or_else(|| invalid("/apiEndpoint", "is needed: the address to ask"))?;
        let schedule = take_interval(&mut members)?;
        let schedule = schedule.ok_or_else(|| {
            invalid("/pollingInterval", "is needed: the milliseconds from one question to the next")
        })?;
        let stream = members.take::<String>("stream")?;
        members.finish()?;
        let (definition, secrets) = short_definition(&url)?;
        let stream = stream_of(stream, &definition)?;
        Ok(AskedJob {
            name: stream.to_string(),
            owner: None,
            stream,
            paused: false,
            schedule,
            definition,
            has_new_secrets: !secrets.is_empty(),
            secrets,
            user_id: Some(user_id),
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

    /// The same of the short form.
    pub fn patched_short(
        row: &JobRow,
        patch: Map<String, Value>,
        sealer: &Sealer,
    ) -> Result<AskedJob, ChangeError> {
        let mut members = Members::new(patch);
        let mut full = Map::new();
        if let Some(url) = members.take::<String>("apiEndpoint")? {
            full.insert("url".to_owned(), url.into());
        }
        let schedule = take_interval(&mut members)?;
        if let Some(ms) = schedule.as_ref().and_then(Schedule::interval_ms) {
            full.insert("interval_ms".to_owned(), ms.into());
        }
        if let Some(stream) = members.take::<String>("stream")? {
            full.insert("stream".to_owned(), stream.into());
        }
        members.finish()?;
        AskedJob::patched(row, full, sealer).map_err(|error| match error {
            ChangeError::Invalid(error) if error.place == "/url" => {
                invalid("/apiEndpoint", error.message).into()
            }
            // The short form has them in the address.
            ChangeError::Invalid(error) if error.place.starts_with("/secret_headers") => {
                let message = "is another scheme, host or port than the credentials were given for: give them again";
                invalid("/apiEndpoint", message).into()
            }
            error => error,
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
    /// whoever guesses when the guess is right.
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
        // Else whoever may change the job could have them sent to an address of their own.
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

impl From<JobRow> for JobView {
    fn from(row: JobRow) -> JobView {
        let (started_at, error) = (row.last_started_at, row.last_error);
        let parked = row.last_parked.unwrap_or_default();
        let last_run = |status| LastRun { status, started_at, error, parked };
        JobView {
            id: row.id,
            name: row.name,
            owner: row.owner_name.unwrap_or_else(|| LOCAL_USER_NAME.to_owned()),
            stream: row.stream,
            paused: row.paused,
            running: row.running,
            next_run_at: row.due_at,
            failures: row.failures,
            unfinished: row.unfinished,
            last_run: row.last_status.map(last_run),
            created_at: row.created_at,
            updated_at: row.updated_at,
            schedule: row.schedule.0,
            definition: row.definition.0,
        }
    }
}

impl From<JobRow> for ShortJobView {
    fn from(row: JobRow) -> ShortJobView {
        let owner = || row.owner_name.unwrap_or_else(|| LOCAL_USER_NAME.to_owned());
        ShortJobView {
            id: row.id,
            user_id: row.user_id.unwrap_or_else(owner),
            api_endpoint: row.definition.0["url"].clone(),
            polling_interval: row.schedule.0["interval_ms"].as_u64(),
            stream: row.stream,
            next_run_at: row.due_at,
        }
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

fn short_definition(url: &str) -> Result<(Definition, Secrets), Invalid> {
    let (endpoint, credentials) = parse_endpoint("/apiEndpoint", url)?;
    let (mut definition, mut secrets) = (Definition::plain(endpoint), Secrets::default());
    if let Some(credentials) = credentials {
        secrets.insert("authorization", credentials.0);
        definition.secret_headers = secrets.names();
    }
    Ok((definition, secrets))
}

fn take_interval(members: &mut Members) -> Result<Option<Schedule>, Invalid> {
    let place = "/pollingInterval";
    let interval: Option<serde_json::Number> = members.take("pollingInterval")?;
    interval.map(|ms| Schedule::every(place, ms.as_i128().unwrap_or_default())).transpose()
}

/// The stream that was named, else the one that the address names.
pub fn stream_of(given: Option<String>, definition: &Definition) -> Result<StreamName, Invalid> {
    match given {
        None => Ok(definition.url.stream_name()),
        Some(name) => name.parse().map_err(|error: tidegate_codec::InvalidStreamName| {
            invalid("/stream", error.to_string())
        }),
    }
}

fn checked_words(place: &str, text: String) -> Result<String, Invalid> {
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
