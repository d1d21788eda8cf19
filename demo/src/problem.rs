//! An error reply (RFC 9457), and what it means for the records of its request.

use std::fmt;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::gateway::Attempt;

/// Longest part of a body that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 300;
/// The gateway could not write its journal: the request at fault may be found in it after a restart.
const CODE_JOURNAL_FAILED: &str = "journal_failed";

/// What an error reply says.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    body: String,
    /// The body, if it is JSON.
    members: Value,
}

impl Problem {
    pub async fn read(response: Response) -> Problem {
        let status = response.status();
        // Without a body the status has to do.
        Problem::new(status, response.text().await.unwrap_or_default())
    }

    fn new(status: StatusCode, body: String) -> Problem {
        let members = serde_json::from_str(&body).unwrap_or_default();
        Problem { status, body, members }
    }

    /// What became of the records.
    pub fn judge(&self, retry_after: Option<Duration>) -> Attempt {
        let reason = self.to_string();
        let status = self.status;
        // A long body becomes several entries, and the first of them may have been accepted before the failure.
        let partly =
            self.members.get("accepted").and_then(Value::as_u64).is_some_and(|count| count > 0);
        let journal_failed = self.member("code") == Some(CODE_JOURNAL_FAILED);
        match status {
            _ if partly || journal_failed => Attempt::Unknown(reason),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Attempt::Refused { retry_after, reason }
            }
            // The gateway did not get the whole request, or failed half way: either way it has not said no.
            StatusCode::REQUEST_TIMEOUT => Attempt::Unknown(reason),
            _ if status.is_server_error() => Attempt::Unknown(reason),
            _ => Attempt::Rejected(reason),
        }
    }

    fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }
}

/// One line for people.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        let words: Vec<&str> =
            ["code", "detail"].into_iter().filter_map(|name| self.member(name)).collect();
        if words.is_empty() {
            let shown: String = self.body.trim().chars().take(SHOWN_CHARS_MAX).collect();
            let separator = if shown.is_empty() { "" } else { ": " };
            return write!(f, "{separator}{shown}");
        }
        write!(f, ": {}", words.join(": "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, body: &str) -> Problem {
        Problem::new(StatusCode::from_u16(status).expect("a status"), body.to_owned())
    }

    #[test]
    fn a_problem_is_told_by_its_code_and_detail() {
        let json =
            r#"{"type":"about:blank","title":"T","status":503,"code":"overloaded","detail":"d"}"#;
        assert_eq!(problem(503, json).to_string(), "503 Service Unavailable: overloaded: d");
        assert_eq!(problem(502, "<h1>Oh</h1>\n").to_string(), "502 Bad Gateway: <h1>Oh</h1>");
        assert_eq!(problem(404, "").to_string(), "404 Not Found");
        let long = problem(404, &"x".repeat(10_000)).to_string();
        assert_eq!(long.len(), "404 Not Found: ".len() + SHOWN_CHARS_MAX);
    }

    #[test]
    fn only_a_clear_no_may_be_sent_again() {
        let second = Some(Duration::from_secs(1));
        let attempt = |status, body: &str| problem(status, body).judge(second);
        let nothing_taken = r#"{"code":"overloaded","accepted":0,"quarantined":0}"#;
        for status in [429, 503] {
            let attempt = attempt(status, nothing_taken);
            assert!(
                matches!(attempt, Attempt::Refused { retry_after, .. } if retry_after == second),
                "{status}: {attempt:?}"
            );
        }
        for (status, body) in [
            (503, r#"{"code":"overloaded","accepted":500,"position":"ff"}"#),
            (413, r#"{"code":"body_too_large","accepted":1}"#),
            (503, r#"{"code":"journal_failed","accepted":0}"#),
            (500, r#"{"code":"internal"}"#),
            (502, "<h1>Bad gateway</h1>"),
            (408, ""),
        ] {
            let attempt = attempt(status, body);
            assert!(matches!(attempt, Attempt::Unknown(_)), "{status} {body}: {attempt:?}");
        }
        for status in [400, 401, 403, 404, 413, 415, 422] {
            let attempt = attempt(status, nothing_taken);
            assert!(matches!(attempt, Attempt::Rejected(_)), "{status}: {attempt:?}");
        }
    }
}
