//! `tidegate job`: polling jobs, on the database itself; running gateways notice within a second.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use tidegate_record::clock::Clock;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::auth::LOCAL_USER_NAME;
use crate::cli::account::id_of;
use crate::cli::database;
use crate::cli::output::{aligned, print};
use crate::cli::place::Place;
use crate::db::Pool;
use crate::db::polling_jobs::{self, JobOwner, JobRow, JobsToList, RunNow};
use crate::outbound::Sealer;
use crate::polling::jobs::{AskedJob, JobView};
use crate::polling::making;

/// Jobs that are read at a time.
const PAGE: u32 = 1_000;

/// What to do with polling jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Make a job; it runs at once, and its stream is made with its first run.
    Add(Box<AddJob>),
    /// List all jobs.
    List(ListJobs),
    /// Run a job now.
    Run {
        /// The job, from the list.
        id: Uuid,
    },
    /// Let a job rest; a run under way ends as usual.
    Pause {
        /// The job, from the list.
        id: Uuid,
    },
    /// Let a paused job go on; if it is overdue it runs once, at once.
    Resume {
        /// The job, from the list.
        id: Uuid,
    },
    /// Take jobs away. What they brought in stays.
    Rm {
        /// The jobs, from the list.
        #[arg(required = true)]
        ids: Vec<Uuid>,
    },
}

/// A new job.
#[derive(Debug, Args)]
pub struct AddJob {
    /// The address to ask.
    url: String,
    /// Milliseconds from one question to the next.
    #[arg(
        long,
        env = "TIDEGATE_JOB_INTERVAL_MS",
        conflicts_with = "cron",
        required_unless_present = "cron"
    )]
    interval_ms: Option<u64>,
    /// When to ask, as a cron expression such as `*/5 * * * *`.
    #[arg(long, env = "TIDEGATE_JOB_CRON")]
    cron: Option<String>,
    /// Time zone of the cron expression; UTC where not given.
    #[arg(long, env = "TIDEGATE_JOB_ZONE", requires = "cron")]
    zone: Option<String>,
    /// Name of the job; that of its stream where not given.
    #[arg(long, env = "TIDEGATE_JOB_NAME")]
    name: Option<String>,
    /// Stream to feed; named for the last part of the address where not given.
    #[arg(long, env = "TIDEGATE_JOB_STREAM")]
    stream: Option<String>,
    /// JSON pointer to the items in the answer, such as `/data/items`; the whole answer where not given.
    #[arg(long, env = "TIDEGATE_JOB_ITEMS")]
    items: Option<String>,
    /// JSON pointer to what makes an item the same item, such as `/id`; once for each part of the key.
    #[arg(long = "key", env = "TIDEGATE_JOB_KEY")]
    key: Vec<String>,
    /// A changed item replaces its record, instead of being a new one. Needs a key.
    #[arg(long, env = "TIDEGATE_JOB_REPLACE")]
    replace: bool,
    /// Header to send, as `Name: value`; once for each.
    #[arg(long = "header", env = "TIDEGATE_JOB_HEADERS", value_delimiter = '\u{1f}')]
    headers: Vec<String>,
    /// Header to send that is never shown again, as `Name: value`; once for each.
    #[arg(
        long = "secret-header",
        env = "TIDEGATE_JOB_SECRET_HEADERS",
        hide_env_values = true,
        value_delimiter = '\u{1f}'
    )]
    secret_headers: Vec<String>,
    /// Anything else of the API's form, as a JSON object, such as `{"pagination":{"by":"link"}}`.
    #[arg(long, env = "TIDEGATE_JOB_MORE", value_name = "JSON")]
    more: Option<String>,
    /// Whose job it is; without it only admins see it.
    #[arg(long, env = "TIDEGATE_JOB_USER")]
    user: Option<String>,
    /// Key that secret headers are sealed with, as the gateway has it; without it that of the data directory.
    #[arg(long, env = "TIDEGATE_SECRET_KEY", hide_env_values = true)]
    secret_key: Option<String>,
}

/// Options of `job list`.
#[derive(Debug, Args)]
pub struct ListJobs {
    /// Only this user's.
    #[arg(long, env = "TIDEGATE_JOB_USER")]
    user: Option<String>,
    /// Print one JSON object a line.
    #[arg(long, env = "TIDEGATE_JOB_JSON")]
    json: bool,
}

pub(super) async fn run(command: JobCommand, place: &Place, clock: &Clock) -> anyhow::Result<()> {
    let reached = database::reach(place).await?;
    let result = on_database(command, place, reached.pool(), clock).await;
    reached.finish(result).await
}

async fn on_database(
    command: JobCommand,
    place: &Place,
    pool: &Pool,
    clock: &Clock,
) -> anyhow::Result<()> {
    match command {
        JobCommand::Add(job) => add(*job, place, pool, clock).await,
        JobCommand::List(list) => print_list(&list, pool).await,
        JobCommand::Run { id } => match polling_jobs::run_now(pool, id, JobOwner::Any).await? {
            RunNow::Due => print(&format!("job {id} is due now\n")),
            RunNow::Paused => {
                bail!("job {id} is paused; let it go on first: tidegate job resume {id}")
            }
            RunNow::UnderWay => bail!("job {id} is running now"),
            RunNow::NotFound => bail!("there is no polling job {id}"),
        },
        JobCommand::Pause { id } => pause(pool, id, true).await,
        JobCommand::Resume { id } => pause(pool, id, false).await,
        JobCommand::Rm { ids } => {
            for id in ids {
                if !polling_jobs::delete(pool, id, JobOwner::Any).await? {
                    bail!("there is no polling job {id}");
                }
                print(&format!("job {id} is gone\n"))?;
            }
            Ok(())
        }
    }
}

async fn add(job: AddJob, place: &Place, pool: &Pool, clock: &Clock) -> anyhow::Result<()> {
    let owner_id = match &job.user {
        Some(name) => Some(id_of(pool, name).await?),
        None => None,
    };
    let key = job.secret_key.clone().filter(|key| !key.is_empty());
    let asked = AskedJob::take(job.into_members()?)?;
    asked.check_new()?;
    if asked.owner.is_some() {
        bail!("--more does not say whose job it is; --user does");
    }
    making::check_limits(pool, owner_id).await?;
    let sealer = if asked.secrets.is_empty() {
        None
    } else {
        Some(Sealer::load(key.as_deref(), &place.data.data_dir)?)
    };
    let row = making::insert(pool, clock, &asked, owner_id, sealer.as_ref()).await?;
    let row = row.context("the job was not made")?;
    print(&format!("{}\n", serde_json::to_string_pretty(&JobView::from(row))?))
}

async fn pause(pool: &Pool, id: Uuid, paused: bool) -> anyhow::Result<()> {
    if !polling_jobs::pause(pool, id, paused).await? {
        bail!("there is no polling job {id}");
    }
    print(&format!("job {id} {}\n", if paused { "rests" } else { "goes on" }))
}

async fn print_list(list: &ListJobs, pool: &Pool) -> anyhow::Result<()> {
    let of = match &list.user {
        Some(name) => JobOwner::User(id_of(pool, name).await?),
        None => JobOwner::Any,
    };
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let which = JobsToList { of, streams: None, after, limit: PAGE };
        let page = polling_jobs::list(pool, &which).await?;
        after = page.last().map(|job| job.id);
        let is_last = page.len() < PAGE as usize;
        for job in page {
            if list.json {
                print(&format!("{}\n", serde_json::to_string(&JobView::from(job))?))?;
            } else {
                rows.push(row(&job)?);
            }
        }
        if is_last {
            break;
        }
    }
    let headings = ["ID", "NAME", "OWNER", "STREAM", "EVERY", "STATE", "NEXT RUN"];
    if list.json { Ok(()) } else { print(&aligned(&headings, rows.into_iter())) }
}

fn row(job: &JobRow) -> anyhow::Result<Vec<String>> {
    let every = match (&job.schedule.0["interval_ms"], &job.schedule.0["cron"]) {
        (Value::Number(ms), _) => format!("{ms} ms"),
        (_, cron) => cron.as_str().unwrap_or("-").to_owned(),
    };
    let state = match &job.last_status {
        _ if job.paused => "paused",
        _ if job.running => "running",
        _ if job.unfinished.is_some() => "unfinished",
        Some(status) => status,
        None => "new",
    };
    Ok(vec![
        job.id.to_string(),
        job.name.clone(),
        job.owner_name.clone().unwrap_or_else(|| LOCAL_USER_NAME.to_owned()),
        job.stream.clone(),
        every,
        state.to_owned(),
        job.due_at.replace_nanosecond(0)?.format(&Rfc3339)?,
    ])
}

impl AddJob {
    /// The API's full form.
    fn into_members(self) -> anyhow::Result<Map<String, Value>> {
        let mut members: Map<String, Value> = match &self.more {
            Some(more) => serde_json::from_str(more).context("--more")?,
            None => Map::new(),
        };
        let texts = [
            ("url", Some(self.url)),
            ("cron", self.cron),
            ("zone", self.zone),
            ("name", self.name),
            ("stream", self.stream),
            ("items", self.items),
            ("on_change", self.replace.then(|| "replace".to_owned())),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                members.insert(name.to_owned(), text.into());
            }
        }
        if let Some(interval_ms) = self.interval_ms {
            members.insert("interval_ms".to_owned(), interval_ms.into());
        }
        if !self.key.is_empty() {
            members.insert("key".to_owned(), self.key.into());
        }
        for (name, headers) in [("headers", self.headers), ("secret_headers", self.secret_headers)]
        {
            if !headers.is_empty() {
                members.insert(name.to_owned(), parse_headers(&headers)?.into());
            }
        }
        Ok(members)
    }
}

fn parse_headers(headers: &[String]) -> anyhow::Result<Map<String, Value>> {
    let pair = |header: &String| {
        // Not the header itself in the message: it may be a secret.
        let (name, value) = header.split_once(':').context("a header is `Name: value`")?;
        Ok((name.trim().to_owned(), value.trim().into()))
    };
    headers.iter().map(pair).collect()
}
