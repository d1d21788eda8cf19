//! What a sender is told of invalid records that the quarantine does not keep: how many, why, and what helps.

use serde::Serialize;

use crate::api::ApiError;
use crate::api::inputs::by_stream::ByStream;
use crate::config::{Quarantine, QuarantineFull};
use crate::ingest::IngestReply;
use crate::ingest::{NotKept, WhyNotKept};

/// One reason: `{"code":"request_limit","records":490000,"message":"…"}`.
#[derive(Debug, Serialize)]
pub struct Reason {
    code: &'static str,
    records: u64,
    message: String,
}

/// The reasons that there were, with the limits as they are set.
pub fn reasons(limits: &Quarantine, not_kept: &NotKept) -> Vec<Reason> {
    let reason = |(why, records): (WhyNotKept, u64)| {
        let message = message(limits, why);
        Reason { code: why.as_str(), records, message }
    };
    not_kept.reasons().map(reason).collect()
}

fn message(limits: &Quarantine, why: WhyNotKept) -> String {
    match why {
        WhyNotKept::RequestLimit => format!(
            "of one request at most {} invalid records and {} bytes of them are kept \
             (TIDEGATE_QUARANTINE_REQUEST_RECORDS_MAX, TIDEGATE_QUARANTINE_REQUEST_BYTES_MAX); the errors say what is \
             wrong with the first",
            limits.quarantine_request_records_max, limits.quarantine_request_bytes_max
        ),
        WhyNotKept::Quota => {
            "this token's rate, its records_per_second, does not cover more invalid records"
                .to_owned()
        }
        WhyNotKept::StreamFull => format!(
            "the quarantine holds as much of this stream as it may, {} records or {} bytes \
             (TIDEGATE_QUARANTINE_STREAM_RECORDS_MAX, TIDEGATE_QUARANTINE_STREAM_BYTES_MAX); it has room again {}",
            limits.quarantine_stream_records_max,
            limits.quarantine_stream_bytes_max,
            when_again(limits.quarantine_full)
        ),
        WhyNotKept::QuarantineFull => format!(
            "the quarantine holds as much as it may, {} records or {} bytes (TIDEGATE_QUARANTINE_RECORDS_MAX, \
             TIDEGATE_QUARANTINE_BYTES_MAX); it has room again {}",
            limits.quarantine_records_max,
            limits.quarantine_bytes_max,
            when_again(limits.quarantine_full)
        ),
        WhyNotKept::NoStream => {
            "these lines name no stream, or one that takes nothing from this request; the errors say what is wrong with the \
             first"
                .to_owned()
        }
    }
}

fn when_again(full: QuarantineFull) -> &'static str {
    match full {
        QuarantineFull::Refuse => "when some of them are replayed or dropped",
        QuarantineFull::DropOldest => "in a moment, when the oldest are dropped",
    }
}

/// What the sender of one invalid record, or of nothing but invalid ones of which none is kept, is told.
pub fn nothing_taken(limits: &Quarantine, reply: &IngestReply) -> Option<ApiError> {
    let kept = reply.accepted + reply.quarantined;
    let error = if kept == 0 && !reply.not_kept.is_empty() {
        let because = reasons(limits, &reply.not_kept);
        let why: Vec<&str> = because.iter().map(|reason| &*reason.message).collect();
        let (code, what) = if reply.single {
            ("invalid_record", "the record is invalid, and it is not kept".to_owned())
        } else {
            let records = reply.not_kept.total();
            let has_stream = |(why, _)| why != WhyNotKept::NoStream;
            let what = if reply.not_kept.reasons().all(has_stream) {
                format!("all {records} records are invalid, and none of them is kept")
            } else {
                format!("none of the {records} records or lines is taken")
            };
            ("not_kept", what)
        };
        ApiError::unprocessable(code, format!("{what}: {}", why.join("; ")))
    } else if reply.single && reply.refused > 0 {
        let detail = "the record is invalid; it is kept in the quarantine";
        ApiError::unprocessable("invalid_record", detail)
    } else {
        return None;
    };
    Some(with_counts(error, limits, reply))
}

/// Tells what became of the request's records.
pub fn with_counts(error: ApiError, limits: &Quarantine, reply: &IngestReply) -> ApiError {
    let mut error = error.with("accepted", reply.accepted).with("quarantined", reply.quarantined);
    if !reply.not_kept.is_empty() {
        let because = serde_json::json!(reasons(limits, &reply.not_kept));
        error = error.with("not_kept", reply.not_kept.total()).with("not_kept_because", because);
    }
    if !reply.streams.is_empty() {
        let streams = serde_json::json!(ByStream(reply.streams.clone()));
        error = error.with("streams", streams);
    }
    if let Some(position) = reply.position {
        error = error.with("position", position.to_string());
    }
    if reply.errors.is_empty() {
        error
    } else {
        error.with("errors", serde_json::json!(reply.errors))
    }
}
