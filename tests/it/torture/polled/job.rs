//! The jobs that take part: every way an item can take.

use serde_json::{Value, json};

use crate::support::Api;

/// Shortest interval that a job may have, in milliseconds.
const INTERVAL_MS: u64 = 1_000;
/// Items on a page.
const PAGE_ITEMS: usize = 7;

/// A job of its own stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// A changed item is a record more.
    Appended,
    /// A changed item takes the place of what it was; pages by the header `Link`.
    Replaced,
    /// A typed stream, which refuses some items; pages by an address in the answer.
    Typed,
    /// Without a key; the API tells what it has by an `ETag`.
    Tagged,
    /// Asks for what changed since the last time; the latest changes are on the first page.
    Since,
}

impl Job {
    pub const ALL: [Job; 5] = [Job::Appended, Job::Replaced, Job::Typed, Job::Tagged, Job::Since];

    pub fn stream(self) -> &'static str {
        match self {
            Job::Appended => "polled_appended",
            Job::Replaced => "polled_replaced",
            Job::Typed => "polled_typed",
            Job::Tagged => "polled_tagged",
            Job::Since => "polled_since",
        }
    }

    pub fn path(self) -> String {
        format!("/{}", self.stream())
    }

    /// The stream, where the job shall not make it as it is usual.
    pub fn stream_definition(self) -> Option<Value> {
        let column = |(name, kind): (&str, &str)| json!({"name": name, "type": kind});
        let columns =
            [("key", "bigint"), ("version", "bigint"), ("note", "text"), ("amount", "integer")];
        let columns: Vec<Value> = columns.into_iter().map(column).collect();
        (self == Job::Typed).then(|| json!({"name": self.stream(), "columns": columns}))
    }

    pub fn definition(self, api: &Api) -> Value {
        let mut job = json!({
            "url": api.url(&self.path()),
            "stream": self.stream(),
            "interval_ms": INTERVAL_MS,
        });
        let rest = match self {
            Job::Appended => json!({"key": ["/key"]}),
            Job::Replaced => {
                json!({"key": ["/key"], "on_change": "replace", "pagination": {"by": "link"}})
            }
            Job::Typed => json!({
                "key": ["/key"],
                "items": "/items",
                "pagination": {"by": "next", "pointer": "/next"},
            }),
            Job::Tagged => json!({}),
            Job::Since => {
                let since = json!({"parameter": "since", "field": "/changed", "format": "integer", "overlap": 0});
                json!({
                    "key": ["/key"],
                    "items": "/items",
                    "pagination": {"by": "next", "pointer": "/next"},
                    "since": since,
                })
            }
        };
        let members = job.as_object_mut().expect("it is an object");
        members.extend(rest.as_object().expect("it is an object").clone());
        job
    }

    /// Items on a page; None: all of them are on one.
    pub fn page_items(self) -> Option<usize> {
        match self {
            Job::Appended | Job::Tagged => None,
            Job::Replaced | Job::Typed | Job::Since => Some(PAGE_ITEMS),
        }
    }

    /// Selects every row as the item that it was made of.
    pub fn rows(self) -> String {
        let item = match self {
            Job::Typed => {
                "jsonb_build_object('key', key, 'version', version, 'note', note, 'amount', amount)
                 || coalesce(extra, '{}')"
            }
            _ => "payload::jsonb",
        };
        format!("select {item} from streams.{}", self.stream())
    }
}
