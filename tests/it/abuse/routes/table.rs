//! Who is answered what, route by route: the table itself, and how it is read.
//!
//! A route whose answer depends on whose thing is asked for has a row for each: `own` is a thing of the user whom all members'
//! credentials belong to, `another's` of another member. What is not a refusal is a status of its own, too: a job that may
//! be run, but is paused, is 409, and an address that may be tried out, but not asked, 422.

use std::fmt::Write;

use reqwest::Method;

/// The kinds of callers, then a row for each route. `|` is for the eye.
pub const TABLE: &str = "
                                         absent wrong expired revoked disabled | ingest write read monitor s:write jobs admin | other | password member boss foreign | ticket spent
GET    /                                   200   200    200     200     200    |  200   200   200   200     200   200   200  |  200  |    200     200   200   200   |   200   200
GET    /assets/{file}                      404   404    404     404     404    |  404   404   404   404     404   404   404  |  404  |    404     404   404   404   |   404   404
GET    /healthz                            200   200    200     200     200    |  200   200   200   200     200   200   200  |  200  |    200     200   200   200   |   200   200
GET    /readyz                             200   200    200     200     200    |  200   200   200   200     200   200   200  |  200  |    200     200   200   200   |   200   200
GET    /metrics                            200   200    200     200     200    |  200   200   200   200     200   200   200  |  200  |    200     200   200   200   |   200   200
GET    /v1/status                          401   401    401     401     401    |  403   403   200   403     403   403   200  |  200  |    200     200   200   200   |   401   401
GET    /v1/configuration                   401   401    401     401     401    |  403   403   403   403     403   403   200  |  403  |    403     403   200   403   |   401   401
GET    /v1/sessions                        401   401    401     401     401    |  200   200   200   200     200   200   200  |  200  |    200     200   200   200   |   401   401
POST   /v1/sessions                        201   201    201     201     201    |  201   201   201   201     201   201   201  |  201  |    201     201   201   403   |   201   201
GET    /v1/users                           401   401    401     401     401    |  403   403   403   403     403   403   200  |  403  |    403     403   200   403   |   401   401
POST   /v1/users                           401   401    401     401     401    |  403   403   403   403     403   403   201  |  403  |    403     403   201   403   |   401   401
PATCH  /v1/users/{id} own                  401   401    401     401     401    |  403   403   403   403     403   403   200  |  403  |    200     200   200   403   |   401   401
PATCH  /v1/users/{id} another's            401   401    401     401     401    |  403   403   403   403     403   403   200  |  403  |    403     403   200   403   |   401   401
GET    /v1/tokens                          401   401    401     401     401    |  200   200   200   200     200   200   200  |  200  |    200     200   200   200   |   401   401
POST   /v1/tokens                          401   401    401     401     401    |  403   403   403   403     403   403   201  |  403  |    201     201   201   403   |   401   401
DELETE /v1/tokens/{id} own                 401   401    401     401     401    |  403   403   403   403     403   403   204  |  403  |    204     204   204   403   |   401   401
DELETE /v1/tokens/{id} another's           401   401    401     401     401    |  403   403   403   403     403   403   204  |  403  |    404     404   204   403   |   401   401
GET    /v1/streams                         401   401    401     401     401    |  403   403   200   403     403   403   200  |  200  |    200     200   200   200   |   401   401
POST   /v1/streams                         401   401    401     401     401    |  403   403   403   403     201   403   201  |  403  |    201     201   201   403   |   401   401
POST   /v1/streams/infer                   401   401    401     401     401    |  403   403   200   403     403   403   200  |  200  |    200     200   200   403   |   401   401
GET    /v1/streams/{stream}                401   401    401     401     401    |  403   403   200   403     403   403   200  |  403  |    200     200   200   200   |   401   401
PATCH  /v1/streams/{stream}                401   401    401     401     401    |  403   403   403   403     200   403   200  |  403  |    200     200   200   403   |   401   401
DELETE /v1/streams/{stream}                401   401    401     401     401    |  403   403   403   403     204   403   204  |  403  |    204     204   204   403   |   401   401
GET    /v1/streams/{stream}/records        401   401    401     401     401    |  403   403   200   403     403   403   200  |  403  |    200     200   200   200   |   401   401
GET    /v1/streams/{stream}/records/{id}   401   401    401     401     401    |  403   403   200   403     403   403   200  |  403  |    200     200   200   200   |   401   401
GET    /v1/streams/{stream}/trends         401   401    401     401     401    |  403   403   200   403     403   403   200  |  403  |    200     200   200   200   |   401   401
GET    /v1/streams/{stream}/facets         401   401    401     401     401    |  403   403   200   403     403   403   200  |  403  |    200     200   200   200   |   401   401
PUT    /v1/streams/{stream}/records/{id}   401   401    401     401     401    |  403   409   403   403     403   403   409  |  403  |    409     409   409   403   |   401   401
PATCH  /v1/streams/{stream}/records/{id}   401   401    401     401     401    |  403   409   403   403     403   403   409  |  403  |    409     409   409   403   |   401   401
DELETE /v1/streams/{stream}/records/{id}   401   401    401     401     401    |  403   409   403   403     403   403   409  |  403  |    409     409   409   403   |   401   401
GET    /v1/streams/{stream}/by-key/{key}   401   401    401     401     401    |  403   403   409   403     403   403   409  |  403  |    409     409   409   409   |   401   401
PUT    /v1/streams/{stream}/by-key/{key}   401   401    401     401     401    |  403   409   403   403     403   403   409  |  403  |    409     409   409   403   |   401   401
PATCH  /v1/streams/{stream}/by-key/{key}   401   401    401     401     401    |  403   409   403   403     403   403   409  |  403  |    409     409   409   403   |   401   401
DELETE /v1/streams/{stream}/by-key/{key}   401   401    401     401     401    |  403   409   403   403     403   403   409  |  403  |    409     409   409   403   |   401   401
POST   /v1/streams/{stream}/records        401   401    401     401     401    |  202   403   403   403     403   403   202  |  403  |    202     202   202   403   |   401   401
POST   /v1/records                         401   401    401     401     401    |  202   403   403   403     403   403   202  |  422  |    202     202   202   403   |   401   401
GET    /v1/quarantine                      401   401    401     401     401    |  403   403   200   403     403   403   200  |  200  |    200     200   200   200   |   401   401
DELETE /v1/quarantine                      401   401    401     401     401    |  403   403   403   403     200   403   200  |  403  |    200     200   200   403   |   401   401
GET    /v1/quarantine/summary              401   401    401     401     401    |  403   403   200   403     403   403   200  |  200  |    200     200   200   200   |   401   401
GET    /v1/quarantine/{id}                 401   401    401     401     401    |  403   403   200   403     403   403   200  |  404  |    200     200   200   200   |   401   401
DELETE /v1/quarantine/{id}                 401   401    401     401     401    |  403   403   403   403     204   403   204  |  404  |    204     204   204   403   |   401   401
POST   /v1/quarantine/{id}/replay          401   401    401     401     401    |  403   403   403   403     403   403   202  |  404  |    202     202   202   403   |   401   401
GET    /v1/polling-jobs                    401   401    401     401     401    |  403   403   403   403     403   200   200  |  200  |    200     200   200   200   |   401   401
POST   /v1/polling-jobs                    401   401    401     401     401    |  403   403   403   403     403   201   201  |  403  |    201     201   201   403   |   401   401
POST   /v1/polling-jobs/preview            401   401    401     401     401    |  403   403   403   403     403   422   422  |  403  |    422     422   422   403   |   401   401
GET    /v1/polling-jobs/{id} own           401   401    401     401     401    |  403   403   403   403     403   200   200  |  404  |    200     200   200   200   |   401   401
GET    /v1/polling-jobs/{id} another's     401   401    401     401     401    |  403   403   403   403     403   404   200  |  404  |    404     404   200   404   |   401   401
PATCH  /v1/polling-jobs/{id} own           401   401    401     401     401    |  403   403   403   403     403   200   200  |  404  |    200     200   200   403   |   401   401
PATCH  /v1/polling-jobs/{id} another's     401   401    401     401     401    |  403   403   403   403     403   404   200  |  404  |    404     404   200   403   |   401   401
DELETE /v1/polling-jobs/{id} own           401   401    401     401     401    |  403   403   403   403     403   204   204  |  404  |    204     204   204   403   |   401   401
DELETE /v1/polling-jobs/{id} another's     401   401    401     401     401    |  403   403   403   403     403   404   204  |  404  |    404     404   204   403   |   401   401
POST   /v1/polling-jobs/{id}/run own       401   401    401     401     401    |  403   403   403   403     403   409   409  |  404  |    409     409   409   403   |   401   401
POST   /v1/polling-jobs/{id}/run another's 401   401    401     401     401    |  403   403   403   403     403   404   409  |  404  |    404     404   409   403   |   401   401
GET    /v1/polling-jobs/{id}/runs own      401   401    401     401     401    |  403   403   403   403     403   200   200  |  404  |    200     200   200   200   |   401   401
GET    /v1/polling-jobs/{id}/runs another's 401  401    401     401     401    |  403   403   403   403     403   404   200  |  404  |    404     404   200   404   |   401   401
GET    /polling-jobs                       401   401    401     401     401    |  403   403   403   403     403   200   200  |  200  |    200     200   200   200   |   401   401
POST   /polling-jobs                       401   401    401     401     401    |  403   403   403   403     403   201   201  |  403  |    201     201   201   403   |   401   401
GET    /polling-jobs/{id} own              401   401    401     401     401    |  403   403   403   403     403   200   200  |  404  |    200     200   200   200   |   401   401
GET    /polling-jobs/{id} another's        401   401    401     401     401    |  403   403   403   403     403   404   200  |  404  |    404     404   200   404   |   401   401
PATCH  /polling-jobs/{id} own              401   401    401     401     401    |  403   403   403   403     403   200   200  |  404  |    200     200   200   403   |   401   401
PATCH  /polling-jobs/{id} another's        401   401    401     401     401    |  403   403   403   403     403   404   200  |  404  |    404     404   200   403   |   401   401
DELETE /polling-jobs/{id} own              401   401    401     401     401    |  403   403   403   403     403   204   204  |  404  |    204     204   204   403   |   401   401
DELETE /polling-jobs/{id} another's        401   401    401     401     401    |  403   403   403   403     403   404   204  |  404  |    404     404   204   403   |   401   401
GET    /v1/monitor                         401   401    401     401     401    |  403   403   403   101     403   403   101  |  403  |    101     101   101   403   |   101   401
POST   /v1/monitor                         401   401    401     401     401    |  403   403   403   204     403   403   204  |  403  |    204     204   204   403   |   204   401
GET    /v1/monitor/events                  401   401    401     401     401    |  403   403   403   200     403   403   200  |  403  |    200     200   200   403   |   200   401
POST   /v1/monitor/tickets                 401   401    401     401     401    |  403   403   403   201     403   403   201  |  201  |    201     201   201   403   |   401   401
DELETE /v1/sessions                        204   204    204     204     204    |  204   204   204   204     204   204   204  |  204  |    204     204   204   403   |   204   204
";

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    pub method: Method,
    pub path: &'static str,
    /// Whose thing is asked for, where that matters.
    pub of: Option<&'static str>,
    /// A status for each kind of caller, in the order of the heading.
    pub statuses: Vec<u16>,
}

impl Row {
    fn read(line: &'static str) -> Row {
        let mut words = words(line).peekable();
        let method = words.next().expect("a row begins with a method");
        let path = words.next().expect("then comes its path");
        let of = words.next_if(|word| word.parse::<u16>().is_err());
        let statuses = words.map(|word| word.parse().expect("a status")).collect();
        Row { method: method.parse().expect("a method"), path, of, statuses }
    }

    /// The row as it stands in the table, with other statuses.
    pub fn with(&self, statuses: &[u16]) -> String {
        let mut text = format!("{:<6} {} {}", self.method, self.path, self.of.unwrap_or_default());
        for status in statuses {
            let _ = write!(text, " {status}");
        }
        text
    }
}

/// The kinds of callers and the rows.
pub fn read() -> (Vec<&'static str>, Vec<Row>) {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty());
    let callers: Vec<_> = words(lines.next().expect("a heading")).collect();
    let rows: Vec<_> = lines.map(Row::read).collect();
    for row in &rows {
        assert_eq!(row.statuses.len(), callers.len(), "{} {}", row.method, row.path);
    }
    (callers, rows)
}

fn words(line: &'static str) -> impl Iterator<Item = &'static str> {
    line.split_whitespace().filter(|word| *word != "|")
}
