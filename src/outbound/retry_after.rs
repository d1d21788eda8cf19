//! How long a host asks to be left alone: the header `Retry-After`, as seconds or as a date.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use tidegate_record::UnixMicros;

/// Longest wait that a host can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait that the headers ask for, at most [`RETRY_AFTER_MAX`]; none if they do not, or not in words that are known.
pub fn read(headers: &HeaderMap, now: UnixMicros) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if all_digits {
        // More digits than fit are a long time as well.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        date.saturating_sub(Duration::from_micros(u64::try_from(now.0).unwrap_or(0)))
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        // 2026-11-21T17:00:00Z
        let now = UnixMicros(1_795_280_400_000_000);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            read(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("Sat, 21 Nov 2026 17:02:00 GMT"), Some(120));
        assert_eq!(read("Sat, 21 Nov 2026 16:00:00 GMT"), Some(0), "a date that is over");
        assert_eq!(read("Sat, 21 Nov 2099 17:00:00 GMT"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(read("99999999999999999999999"), Some(RETRY_AFTER_MAX.as_secs()));
        for nonsense in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(super::read(&HeaderMap::new(), now), None);
    }
}
