//! What a monitor asks for, read from the request's query.

use tidegate_codec::{StreamName, Streams};

use crate::hub::{Cursor, InvalidCursor, Mode, Selection};

/// Most streams that one monitor can name.
const STREAMS_MAX: usize = 1_000;

/// The parameters of `GET /v1/monitor` and `GET /v1/monitor/events`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonitorRequest {
    /// Which streams; all that the caller may see where not given.
    pub streams: Option<Vec<StreamName>>,
    pub mode: Mode,
    /// Where to resume; from now on where not given.
    pub since: Option<Cursor>,
    /// Whether the counts of the last quarter of an hour are wanted.
    pub history: bool,
}

/// Why a monitor is refused before it begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonitorRequestError {
    #[error("`streams` names `{0}`: a stream's name is lower-case letters a-z, digits and _")]
    InvalidStreamName(String),
    #[error("`streams` is empty; name some, separated by commas, or leave it out for all")]
    NoStreams,
    #[error("`streams` names more than {STREAMS_MAX} streams; leave it out for all")]
    TooManyStreams,
    #[error("`mode` is `full` or `sample`, not `{0}`")]
    InvalidMode(String),
    #[error("`history` is `true` or `false`, not `{0}`")]
    InvalidHistory(String),
    #[error("`since`: {0}")]
    InvalidCursor(#[from] InvalidCursor),
    #[error("there is no parameter `{0}`; there are `streams`, `mode`, `since` and `history`")]
    UnknownParameter(String),
    #[error("there is no stream `{0}`")]
    NoSuchStream(StreamName),
    #[error("stream `{0}` is not among those you may watch")]
    Forbidden(StreamName),
}

impl MonitorRequest {
    /// Reads the pairs of a query. `ticket` is skipped: it is the caller's credential. A parameter that is given twice
    /// counts as given last, `streams` adds up.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<MonitorRequest, MonitorRequestError> {
        let mut request = MonitorRequest::default();
        for (name, value) in pairs {
            match name {
                "streams" => parse_streams(value, request.streams.get_or_insert_default())?,
                "mode" => request.mode = parse_mode(value)?,
                "since" if value.is_empty() => request.since = None,
                "since" => request.since = Some(value.parse()?),
                "history" => request.history = parse_history(value)?,
                "ticket" => {}
                other => return Err(MonitorRequestError::UnknownParameter(shown(other))),
            }
        }
        if request.streams.as_ref().is_some_and(Vec::is_empty) {
            return Err(MonitorRequestError::NoStreams);
        }
        Ok(request)
    }

    /// Takes the id of the last event that a browser saw. It wins over `since`: a browser that reconnects sends both,
    /// and the address is the one it began with.
    ///
    /// An id that is no cursor came from elsewhere: what its reader missed is unknown, which is a gap. A refusal would
    /// end an `EventSource` for good, as it sends the id again with every try.
    pub fn resume_after(&mut self, last_event_id: &str) {
        if !last_event_id.is_empty() {
            self.since = Some(last_event_id.parse().unwrap_or(Cursor::NOWHERE));
        }
    }

    /// What is watched and how, in words: the same for requests that differ only in where they begin.
    pub fn view(&self) -> String {
        let mode = self.mode.as_str();
        let Some(streams) = &self.streams else { return mode.to_owned() };
        let mut names: Vec<&str> = streams.iter().map(StreamName::as_str).collect();
        names.sort_unstable();
        names.dedup();
        format!("{mode} {}", names.join(" "))
    }

    /// What the monitor gets: `allowed` is the streams that the caller may watch, none means all.
    pub fn select(
        &self,
        streams: &Streams,
        allowed: Option<&[StreamName]>,
    ) -> Result<Selection, MonitorRequestError> {
        let Some(names) = &self.streams else {
            return Ok(match allowed {
                None => Selection::All,
                Some(allowed) => Selection::only(allowed.iter().cloned()),
            });
        };
        for name in names {
            // Who may not see a stream does not learn whether it is there.
            if allowed.is_some_and(|allowed| !allowed.contains(name)) {
                return Err(MonitorRequestError::Forbidden(name.clone()));
            }
            if streams.by_name(name).is_none() {
                return Err(MonitorRequestError::NoSuchStream(name.clone()));
            }
        }
        Ok(Selection::only(names.iter().cloned()))
    }
}

fn parse_streams(list: &str, names: &mut Vec<StreamName>) -> Result<(), MonitorRequestError> {
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let valid =
            name.parse().map_err(|_| MonitorRequestError::InvalidStreamName(shown(name)))?;
        if names.len() == STREAMS_MAX {
            return Err(MonitorRequestError::TooManyStreams);
        }
        names.push(valid);
    }
    Ok(())
}

fn parse_mode(word: &str) -> Result<Mode, MonitorRequestError> {
    [Mode::Full, Mode::Sample]
        .into_iter()
        .find(|mode| mode.as_str() == word)
        .ok_or_else(|| MonitorRequestError::InvalidMode(shown(word)))
}

fn parse_history(word: &str) -> Result<bool, MonitorRequestError> {
    word.parse().map_err(|_| MonitorRequestError::InvalidHistory(shown(word)))
}

/// What a caller sent, as far as it is worth repeating.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use tidegate_codec::{PayloadType, Shape, Stream, StreamsSnapshot};
    use tidegate_record::StreamId;

    use super::*;

    fn name(text: &str) -> StreamName {
        text.parse().unwrap()
    }

    fn streams(names: &[&str]) -> Streams {
        let stream = |(id, text): (i32, &&str)| Stream {
            id: StreamId(id),
            name: name(text),
            shape: Shape::Document { payload: PayloadType::Jsonb },
            key: None,
            retention_days: None,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        let streams = Streams::default();
        streams.replace(StreamsSnapshot::new((1..).zip(names).map(stream)));
        streams
    }

    #[test]
    fn a_query_is_read() {
        let request = MonitorRequest::parse([
            ("streams", "a, b"),
            ("mode", "sample"),
            ("since", "0000000a.10"),
            ("history", "true"),
            ("ticket", "secret"),
        ]);
        let expected = MonitorRequest {
            streams: Some(vec![name("a"), name("b")]),
            mode: Mode::Sample,
            since: Some("0000000a.10".parse().unwrap()),
            history: true,
        };
        assert_eq!(request, Ok(expected));
        assert_eq!(MonitorRequest::parse([]), Ok(MonitorRequest::default()));
    }

    #[test]
    fn mistakes_are_named() {
        for (key, value, part) in [
            ("stream", "a", "no parameter `stream`"),
            ("streams", "a,B", "names `B`"),
            ("streams", ",", "is empty"),
            ("mode", "all", "not `all`"),
            ("since", "yesterday", "not a cursor"),
            ("history", "1", "not `1`"),
        ] {
            let error = MonitorRequest::parse([(key, value)]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let many = vec!["a"; STREAMS_MAX + 1].join(",");
        let error = MonitorRequest::parse([("streams", many.as_str())]);
        assert_eq!(error, Err(MonitorRequestError::TooManyStreams));
    }

    #[test]
    fn the_last_event_wins_over_since() {
        let mut request = MonitorRequest::parse([("since", "0000000a.10")]).unwrap();
        request.resume_after("");
        assert_eq!(request.since.unwrap().to_string(), "0000000a.10");
        request.resume_after("0000000a.20");
        assert_eq!(request.since.unwrap().to_string(), "0000000a.20");
        for garbage in ["x", "0000000a.", "\u{fffd}", &"0".repeat(10_000)] {
            request.resume_after(garbage);
            assert_eq!(request.since, Some(Cursor::NOWHERE));
        }
    }

    #[test]
    fn a_view_is_what_is_watched_wherever_it_begins() {
        let view =
            |pairs: &[(&str, &str)]| MonitorRequest::parse(pairs.iter().copied()).unwrap().view();
        let mine = view(&[("streams", "b,a"), ("mode", "full")]);
        assert_eq!(
            mine,
            view(&[("since", "0000000a.10"), ("streams", "a,b,a"), ("history", "true")])
        );
        for other in [&[][..], &[("streams", "a")], &[("streams", "a,b"), ("mode", "sample")]] {
            assert_ne!(view(other), mine, "{other:?}");
        }
        assert_ne!(view(&[("mode", "sample")]), view(&[]));
    }

    #[test]
    fn no_caller_selects_what_they_may_not_see() {
        let streams = streams(&["a", "b"]);
        let ask = |query: &str| MonitorRequest::parse([("streams", query)]).unwrap();
        let allowed = [name("a"), name("gone")];
        let all = MonitorRequest::default();

        assert_eq!(all.select(&streams, None), Ok(Selection::All));
        assert_eq!(all.select(&streams, Some(&allowed)), Ok(Selection::only(allowed.clone())));
        assert_eq!(ask("a").select(&streams, Some(&allowed)), Ok(Selection::only([name("a")])));
        let forbidden = |text| Err(MonitorRequestError::Forbidden(name(text)));
        assert_eq!(ask("a,b").select(&streams, Some(&allowed)), forbidden("b"));
        assert_eq!(ask("nowhere").select(&streams, Some(&allowed)), forbidden("nowhere"));
        let missing = |text| Err(MonitorRequestError::NoSuchStream(name(text)));
        assert_eq!(ask("nowhere").select(&streams, None), missing("nowhere"));
        assert_eq!(ask("gone").select(&streams, Some(&allowed)), missing("gone"));
    }
}
