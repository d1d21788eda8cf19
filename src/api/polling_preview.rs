//! `POST /v1/polling-jobs/preview`: asks for the first page of a job that is still to be made, and shows what came, what
//! could be its key, and what columns its stream could have. It makes nothing and keeps nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tidegate_codec::infer::{self, ProposedColumn, Sample};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::api::caller::ApiJson;
use crate::api::{ApiError, AppState, streams};
use crate::auth::{Caller, Scope};
use crate::polling::ask::{FetchError, Item, Page, Resume};
use crate::polling::jobs::{Definition, Members, stream_of};

/// Most items that are shown.
const SHOWN_MAX: usize = 20;
/// Most bytes of them; the first is shown if it is in the sample.
const SHOWN_BYTES_MAX: usize = 256 << 10;
/// Most items that keys and columns are proposed from.
const SAMPLE_MAX: usize = 1_000;
/// Most bytes of them. In memory they become some twenty times as many.
const SAMPLE_BYTES_MAX: usize = 1 << 20;
/// Most answers that are looked at at a time.
const LOOKS_MAX: usize = 2;
/// Longest wait for others whose answers are looked at.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Advice to who waited for that long.
const RETRY_AFTER_BUSY: Duration = Duration::from_secs(5);
/// Names that are proposed first.
const KEY_NAMES: [&str; 6] = ["id", "uuid", "guid", "_id", "key", "uid"];

/// What the first page has.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// The first of them; none where already the first is very large.
    items: Vec<Box<RawValue>>,
    /// How many items the page has.
    count: usize,
    /// Pointers whose values tell the items apart; none: nothing does but the whole item.
    key: Vec<String>,
    columns: Vec<ProposedColumn>,
}

/// `POST /v1/polling-jobs/preview` → 200, or 422 `preview_failed` with the reason in words. The body is a job's full form;
/// when it runs does not matter.
pub async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(members): ApiJson<Map<String, Value>>,
) -> Result<Json<Preview>, ApiError> {
    caller.require(Scope::Jobs)?;
    let mut members = Members::new(members);
    for name in ["name", "owner", "paused", "interval_ms", "cron", "zone"] {
        members.take::<Value>(name)?;
    }
    let stream = members.take::<String>("stream")?;
    let (definition, secrets) = Definition::take(&mut members)?;
    members.finish()?;
    // Before anything is asked: who may make no such job sees none of its answers either.
    streams::require_stream(&caller, &stream_of(stream, &definition)?)?;
    let mut pages = state.poller.fetcher.pages(Arc::new(definition), secrets, Resume::default());
    let page = pages.next().await?;
    Ok(Json(state.previews.look(page).await?))
}

/// Places for looks at answers, because each takes memory and a processor.
#[derive(Debug, Clone)]
pub struct Previews(Arc<Semaphore>);

impl Default for Previews {
    fn default() -> Previews {
        Previews(Arc::new(Semaphore::new(LOOKS_MAX)))
    }
}

impl Previews {
    /// Looks at a page, apart from where requests are served. The page holds its room until that is done, whether or not
    /// somebody still waits for it.
    async fn look(&self, page: Option<Page>) -> Result<Preview, ApiError> {
        let place = timeout(WAIT_MAX, Arc::clone(&self.0).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let detail = "other previews are being made; try again";
            return Err(ApiError::unavailable("busy", detail, RETRY_AFTER_BUSY));
        };
        let look = move || {
            let preview = look(page.as_ref().map_or(&[], |page| &page.items));
            drop((page, place));
            preview
        };
        tokio::task::spawn_blocking(look).await.map_err(ApiError::internal)
    }
}

fn look(items: &[Item]) -> Preview {
    let mut bytes = 0;
    let sample = items.iter().take(SAMPLE_MAX).take_while(|item| {
        bytes += item.json.len();
        bytes <= SAMPLE_BYTES_MAX
    });
    let sample = &items[..sample.count()];
    let columns = infer::infer(Sample::Json(&as_array(sample)));
    Preview {
        items: shown(sample),
        count: items.len(),
        key: proposed_key(sample),
        columns: columns.map(|inferred| inferred.columns).unwrap_or_default(),
    }
}

fn shown(items: &[Item]) -> Vec<Box<RawValue>> {
    let mut bytes = 0;
    let fits = |(index, item): &(usize, &Item)| {
        bytes += item.json.len();
        *index == 0 || bytes <= SHOWN_BYTES_MAX
    };
    let first = items.iter().take(SHOWN_MAX).enumerate().take_while(fits);
    first.filter_map(|(_, item)| serde_json::from_slice(&item.json).ok()).collect()
}

fn as_array(items: &[Item]) -> Vec<u8> {
    let bodies: Vec<&[u8]> = items.iter().map(|item| &item.json[..]).collect();
    [&b"["[..], &bodies.join(&b','), &b"]"[..]].concat()
}

/// A member that every item has, with a number or text that no other has.
fn proposed_key(items: &[Item]) -> Vec<String> {
    let objects: Option<Vec<Map<String, Value>>> =
        items.iter().map(|item| serde_json::from_slice(&item.json).ok()).collect();
    let objects = objects.unwrap_or_default();
    let Some(first) = objects.first().filter(|_| objects.len() > 1) else { return Vec::new() };
    let tells_apart = |name: &&str| {
        let mut values = HashSet::new();
        objects.iter().all(|object| match object.get(*name) {
            Some(value @ (Value::Number(_) | Value::String(_))) => values.insert(value.to_string()),
            _ => false,
        })
    };
    let named_so = |name: &&str| name.ends_with("_id") || name.ends_with("Id");
    let known = KEY_NAMES.into_iter().filter(|name| first.contains_key(*name));
    let others = first.keys().map(String::as_str).filter(named_so);
    let name = known.chain(others).find(tells_apart);
    name.map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
        .into_iter()
        .collect()
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> ApiError {
        ApiError::unprocessable("preview_failed", error.message).with("kind", error.kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(texts: &[&str]) -> Vec<Item> {
        let item = |text: &&str| Item {
            key: [0; 16],
            content: [0; 16],
            json: text.as_bytes().to_vec().into(),
        };
        texts.iter().map(item).collect()
    }

    #[test]
    fn a_key_tells_all_items_apart() {
        let key = |texts: &[&str]| proposed_key(&items(texts));
        assert_eq!(key(&[r#"{"a":1,"id":1}"#, r#"{"id":2}"#]), ["/id"]);
        assert_eq!(key(&[r#"{"id":1,"u~/_id":"x"}"#, r#"{"id":1,"u~/_id":"y"}"#]), ["/u~0~1_id"]);
        assert!(key(&[r#"{"id":1}"#, r#"{"id":null}"#]).is_empty());
        assert!(key(&[r#"{"id":1}"#, "{}"]).is_empty());
        assert!(key(&[r#"{"id":1}"#]).is_empty(), "one item tells nothing");
        assert!(key(&["[1]", "2"]).is_empty());
    }

    #[test]
    fn of_an_answer_of_any_size_a_bounded_part_is_looked_at() {
        let long = format!(r#"{{"id":1,"a":"{}"}}"#, "x".repeat(SAMPLE_BYTES_MAX / 2));
        let preview = look(&items(&[&long, r#"{"id":2}"#, &long, r#"{"late":1}"#]));
        assert_eq!((preview.items.len(), preview.count), (1, 4));
        assert_eq!(preview.key, ["/id"], "the third, with the same, is not looked at");
        let columns: Vec<&str> = preview.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(columns, ["id_", "a"]);
        let huge = format!(r#"{{"id":"{}"}}"#, "x".repeat(SAMPLE_BYTES_MAX));
        let preview = look(&items(&[&huge]));
        assert_eq!((preview.items.len(), preview.count, preview.columns.len()), (0, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_told_to_come_again() {
        let previews = Previews::default();
        let mut all = Vec::new();
        while let Ok(place) = Arc::clone(&previews.0).try_acquire_owned() {
            all.push(place);
        }
        let error = previews.look(None).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (503, "busy"));
        drop(all);
        assert_eq!(previews.look(None).await.unwrap().count, 0);
    }
}
