//! Replies to questions about records, kept for those who ask the same again.
//!
//! Invariant: a reply that is kept is never older than the stream's last commit on this gateway that was told of: what
//! commits count is part of what it is kept under, and is read before the table is. What others write into the table is seen
//! when the reply's time is over.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tidegate_codec::Stream;
use tidegate_record::{ColumnSet, StreamId};

use crate::api::ApiError;
use crate::api::bodies::{Uncounted, reply_budget};
use crate::api::read::places::Place;
use crate::config;
use crate::counters::Counters;
use crate::telemetry::metrics::{self, CachedReply};

/// Largest reply that is kept, in bytes.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// What a reply takes beside its bytes and its question, in bytes.
const ENTRY_BYTES: usize = 256;
/// Bytes of the hash that an `ETag` is.
const TAG_BYTES: usize = 12;
/// The reply may be kept, and is asked for again each time.
pub const REVALIDATED: HeaderValue = HeaderValue::from_static("private, no-cache");
const VARIES: HeaderValue = HeaderValue::from_static("accept, authorization, cookie");

/// The replies that are kept; clones share them.
#[derive(Debug, Clone)]
pub struct ReplyCache {
    /// None: nothing is kept.
    replies: Option<Cache<Question, Arc<Kept>>>,
    counters: Counters,
}

/// What a reply is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    stream: StreamId,
    columns: ColumnSet,
    /// What was written into the stream's table before it was read.
    writes: u64,
    /// What is asked, in which form.
    asked: String,
}

/// A reply that is there as a whole.
#[derive(Debug)]
pub struct Reply {
    pub media_type: &'static str,
    pub body: Vec<u8>,
    pub link: Option<HeaderValue>,
}

#[derive(Debug)]
struct Kept {
    media_type: &'static str,
    body: Bytes,
    link: Option<HeaderValue>,
    tag: HeaderValue,
}

impl ReplyCache {
    pub fn new(config: &config::Reading, counters: Counters) -> ReplyCache {
        let seconds = config.read_cache_seconds;
        let weight = |question: &Question, kept: &Arc<Kept>| {
            let bytes = question.asked.len() + kept.body.len() + ENTRY_BYTES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let replies = (seconds > 0).then(|| {
            Cache::builder()
                .weigher(weight)
                .max_capacity(config.read_cache_bytes_max)
                .time_to_live(Duration::from_secs(seconds))
                .build()
        });
        ReplyCache { replies, counters }
    }

    /// To be called before the table is read.
    pub fn question(&self, stream: &Stream, asked: String) -> Question {
        let totals = self.counters.of(stream.id).totals();
        let writes = totals.committed + totals.duplicates;
        Question { stream: stream.id, columns: stream.column_set(), writes, asked }
    }

    /// The reply that is kept for the same question, if there is one.
    pub fn find(&self, question: &Question, headers: &HeaderMap) -> Option<Response> {
        let found = self.replies.as_ref()?.get(question);
        metrics::count_cached_reply(match found {
            Some(_) => CachedReply::Found,
            None => CachedReply::Made,
        });
        let kept = found?;
        let mut response = if has(headers, &kept.tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            // It is held anyway, for as long as it is kept; a reply that is not read holds it a little longer.
            (Extension(Uncounted), Body::from(kept.body.clone())).into_response()
        };
        kept.add_headers(response.headers_mut());
        Some(response)
    }

    /// Answers with a reply that was made, and keeps it if it is small and from the primary: one of a replica may be older than
    /// the last commit. `held` goes with its last byte.
    pub fn answer(
        &self,
        question: Question,
        headers: &HeaderMap,
        reply: Reply,
        place: Place,
        held: impl Send + Sync + 'static,
    ) -> Result<Response, ApiError> {
        let Reply { media_type, body, link } = reply;
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..TAG_BYTES]);
        let tag = HeaderValue::try_from(format!("\"{tag}\"")).map_err(ApiError::internal)?;
        let is_known = has(headers, &tag);
        let is_kept = body.len() <= REPLY_BYTES_MAX && place == Place::Primary;
        let copy = if is_kept && self.replies.is_some() {
            Some(Bytes::copy_from_slice(&body))
        } else {
            None
        };
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            reply_budget::reply_with(media_type, body, held)
        };
        let kept = Kept { media_type, body: copy.clone().unwrap_or_default(), link, tag };
        kept.add_headers(response.headers_mut());
        if let (Some(replies), Some(_)) = (&self.replies, copy) {
            replies.insert(question, Arc::new(kept));
        }
        Ok(response)
    }
}

impl Kept {
    fn add_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(ETAG, self.tag.clone());
        headers.insert(CACHE_CONTROL, REVALIDATED);
        headers.insert(VARY, VARIES);
        if let Some(link) = &self.link {
            headers.insert(LINK, link.clone());
        }
    }
}

/// Does the caller have the reply of this tag already?
pub fn has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.trim_start_matches("W/").as_bytes() == tag.as_bytes())
}
