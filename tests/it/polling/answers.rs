//! What counts as an answer, and what people are told where there is none: every status that is no whole answer, the words
//! of an API that says no, and how it is asked for what is newer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::polling::ask::{
    FetchError, FetchErrorKind, Fetcher, Outcome, Pages, Reached, Resume,
};
use tidegate::polling::jobs::SinceValue;
use tidegate_record::clock::Clock;

use crate::polling::fetching::{definition, fetcher, options, run, run_from};
use crate::support::{Answer, Api, Compression, compressed, soon};

async fn error_of(members: Value) -> FetchError {
    run(members).await.expect_err("the run must fail")
}

fn pages_of(members: Value, resume: Resume) -> Pages {
    let (definition, secrets) = definition(members);
    fetcher().pages(None, Arc::new(definition), secrets, resume)
}

/// Asks until there is an error: the error, and how far the run came.
async fn short_of_its_end(members: Value, resume: Resume) -> (FetchError, Reached) {
    let mut pages = pages_of(members, resume);
    loop {
        match soon("a page or an error", pages.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the pages have an end"),
            Err(error) => return (error, pages.reached()),
        }
    }
}

#[tokio::test]
async fn only_a_status_of_a_whole_answer_is_one() {
    let api = Api::start().await;
    let answer = Answer::json(&json!([{"id": 1}])).header("etag", "\"v1\"");
    let url = api.url("/items");
    for (status, said) in [
        (202, "answered 202 Accepted: not ready yet"),
        (201, "answered 201 Created, which is no whole answer"),
        (205, "answered 205 Reset Content, which is no whole answer"),
        (206, "answered 206 Partial Content, which is no whole answer"),
        (207, "answered 207 Multi-Status, which is no whole answer"),
        (226, "answered 226 IM Used, which is no whole answer"),
        (299, "answered 299, which is no whole answer"),
    ] {
        api.always("/items", answer.clone().status(status).header("retry-after", "7"));
        let error = error_of(json!({"url": url})).await;
        let kind = FetchErrorKind::Status(status);
        let kind = if status == 202 { FetchErrorKind::NotReady } else { kind };
        assert_eq!((error.kind, error.retry_after), (kind, Some(Duration::from_secs(7))));
        assert_eq!(error.message, format!("{url}: the API {said}"));
    }
    for status in [200, 203] {
        api.always("/items", answer.clone().status(status));
        let taken = run(json!({"url": url})).await.unwrap();
        assert_eq!((taken.items().len(), taken.outcome), (1, Outcome::Fresh));
        assert!(taken.resume.etag.is_some());
    }
    api.always("/items", Answer::text(204, "").header("etag", "\"v1\""));
    let nothing = run(json!({"url": url})).await.unwrap();
    assert_eq!((nothing.items().len(), nothing.outcome), (0, Outcome::Silent));
    assert_eq!(nothing.resume.etag, None, "nothing is no content that could stay the same");
}

#[tokio::test]
async fn a_post_may_be_answered_as_its_job_says() {
    let api = Api::start().await;
    for status in [201, 226] {
        api.always("/search", Answer::json(&json!([{"id": 1}])).status(status));
        let mut search = json!({"url": api.url("/search"), "method": "POST"});
        let error = error_of(search.clone()).await;
        assert!(error.message.contains("`accept_statuses`"), "{error}");
        search["accept_statuses"] = json!([status]);
        assert_eq!(run(search).await.unwrap().items().len(), 1);
    }
}

#[tokio::test]
async fn what_an_api_says_with_its_refusal_is_told_without_secrets() {
    let api = Api::start().await;
    let members = || {
        json!({
            "url": api.url("/items?api_key=inTheQuery-77"), "timeout_ms": 60_000,
            "secret_headers": {"authorization": "Bearer hunter2-and-more", "x-mine": "pa\"ss/word"},
        })
    };
    let gzip = compressed(Compression::Gzip, b"{\"error\": \"no such field: updated\"}").await;
    let many = format!("{}hunter2-and-more", "x ".repeat(5_000));
    for (answer, said) in [
        (
            Answer::text(400, "{\"error\":\n\t\"bad since\"}"),
            "; it said: {\"error\": \"bad since\"}",
        ),
        (Answer::text(422, "token hunter2-and-more, or hunter2-"), "token •••, or •••"),
        (Answer::text(401, r#"{"x-mine":"pa\"ss\/word"}"#), r#"{"x-mine":"•••"}"#),
        (Answer::text(403, "key inTheQuery-77 may not"), "key ••• may not"),
        (Answer::bytes(400, gzip).header("content-encoding", "gzip"), "no such field: updated"),
        (Answer::bytes(500, &b"\xff\0\x07oops"[..]), "oops"),
        (Answer::text(503, &many), "x x x…"),
        (Answer::endless("so it goes ", "on and ").status(502), "so it goes on and on and"),
    ] {
        api.always("/items", answer);
        let error = error_of(members()).await;
        assert!(matches!(error.kind, FetchErrorKind::Status(_)), "{error:?}");
        assert!(error.message.contains(said), "{said}: {error}");
        assert!(error.message.len() < 500 && !error.message.contains('\0'), "{error}");
        for secret in ["hunter2", "pa\"ss", "inTheQuery"] {
            assert!(!error.message.contains(secret), "{error}");
        }
    }
    // An API that stops in the middle of saying it is not waited for as long as for an answer.
    let begun = Instant::now();
    api.always("/items", Answer::stalled("wait").status(500));
    assert_eq!(error_of(members()).await.kind, FetchErrorKind::Status(500));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    api.always("/items", Answer::text(500, "\r\n"));
    let error = error_of(members()).await;
    assert!(error.message.ends_with("answered 500 Internal Server Error"), "{error}");
    // An answer that is none at all says as much.
    api.always("/items", Answer::text(200, "hunter2-and-more is no JSON"));
    assert!(error_of(members()).await.message.contains("begins \"••• is no JSON"), "{error}");
}

#[tokio::test]
async fn a_page_elsewhere_that_wants_secrets_says_that_they_were_left_out() {
    let (here, there) = (Api::start().await, Api::start_at("127.0.0.2").await);
    for status in [401, 403] {
        there.always("/items", Answer::text(status, "who are you?"));
        let next = format!("<{}>; rel=next", there.url("/items"));
        here.always("/items", Answer::json(&json!([{"id": 1}])).header("link", &next));
        let mut members = json!({"url": here.url("/items"), "pagination": {"by": "link"}});
        let (plain, _) = short_of_its_end(members.clone(), Resume::default()).await;
        assert!(!plain.message.contains("secret"), "there are none: {plain}");
        members["secret_headers"] = json!({"x-mine": "hidden"});
        let (error, _) = short_of_its_end(members, Resume::default()).await;
        assert!(error.message.contains("the secret headers were left out there"), "{error}");
        let place = format!("page 2, {}: the API answered {status}", there.url("/items"));
        assert!(error.message.starts_with(&place), "{error}");
        assert_eq!(there.requests()[0].header("x-mine"), None);
    }
}

#[tokio::test]
async fn zero_bytes_behind_gzip_are_no_damage_of_an_answer() {
    let api = Api::start().await;
    let mut body = compressed(Compression::Gzip, b"[{\"id\":1}]").await;
    body.extend([0; 1_000]);
    api.always("/items", Answer::bytes(200, body.clone()).header("content-encoding", "gzip"));
    assert_eq!(run(json!({"url": api.url("/items")})).await.unwrap().items().len(), 1);
    body.push(b'x');
    api.always("/items", Answer::bytes(200, body).header("content-encoding", "gzip"));
    let error = error_of(json!({"url": api.url("/items")})).await;
    assert_eq!(error.kind, FetchErrorKind::Encoding, "{error}");
}

#[tokio::test]
async fn since_is_written_as_the_api_takes_it() {
    let api = Api::start().await;
    let fetcher = Fetcher::new(options(&["127.0.0.0/8"]), Clock::System).unwrap();
    for (format, value, sent) in [
        (None, "2025-11-21T17:00:00Z", "2025-11-21T17:00:00Z"),
        (None, "2025-11-21T17:00:00.25Z", "2025-11-21T17:00:00.250Z"),
        (None, "2025-11-21T17:00:00.123456+01:00", "2025-11-21T16:00:00.123456Z"),
        (Some("timestamp_seconds"), "2025-11-21T17:00:00.9Z", "2025-11-21T17:00:00Z"),
        (Some("timestamp_ms"), "2025-11-21T17:00:00Z", "2025-11-21T17:00:00.000Z"),
        (Some("datetime"), "2025-11-21T17:00:00.9Z", "2025-11-21 17:00:00"),
        (Some("%d/%m/%Y %H:%M"), "2025-11-21T17:00:00.9Z", "21/11/2025 17:00"),
    ] {
        api.always("/items", Answer::json(&json!([{"at": value}])));
        let mut since = json!({"parameter": "since", "field": "/at", "overlap": 0});
        if let Some(format) = format {
            since["format"] = json!(format);
        }
        let members = json!({"url": api.url("/items"), "since": since});
        let first = run_from(&fetcher, members.clone(), Resume::default()).await.unwrap();
        let kept = serde_json::to_string(&first.resume).unwrap();
        let kept: Resume = serde_json::from_str(&kept).unwrap();
        run_from(&fetcher, members.clone(), kept.clone()).await.unwrap();
        assert_eq!(api.requests().pop().unwrap().query("since").as_deref(), Some(sent));

        // What it does not take it is told with.
        api.always("/items", Answer::text(400, "no"));
        let error = run_from(&fetcher, members, kept).await.unwrap_err();
        assert!(error.message.contains(&format!("since={sent}")), "{error}");
    }
}

#[tokio::test]
async fn pages_without_an_end_are_left_after_some_that_bring_nothing() {
    let api = Api::start().await;
    let number = |asked: &crate::support::Asked| -> u64 {
        asked.query("cursor").map_or(0, |cursor| cursor.parse().unwrap())
    };
    api.on("/empty", move |asked| {
        let cursor = number(asked);
        let items = if cursor == 0 { json!([{"id": 1}]) } else { json!([]) };
        Answer::json(&json!({"items": items, "next": (cursor + 1).to_string()}))
    });
    api.on("/repeated", move |asked| {
        let next = format!("<?cursor={}>; rel=next", number(asked) + 1);
        Answer::json(&json!({"items": [{"id": 1}]})).header("link", &next)
    });
    // Pages with nothing between others are usual.
    api.on("/sparse", move |asked| {
        let cursor = number(asked);
        let items = if cursor % 15 == 0 { json!([{"id": cursor}]) } else { json!([]) };
        let next = (cursor < 60).then(|| (cursor + 1).to_string());
        Answer::json(&json!({"items": items, "next": next}))
    });
    let by_cursor = json!({"by": "next", "pointer": "/next", "parameter": "cursor"});
    let job = |path: &str, pagination: &Value| {
        let url = api.url(path);
        json!({"url": url, "items": "/items", "pagination": pagination, "pages_max": 10_000})
    };
    for (path, pagination) in [("/empty", &by_cursor), ("/repeated", &json!({"by": "link"}))] {
        let (error, reached) = short_of_its_end(job(path, pagination), Resume::default()).await;
        assert_eq!((error.kind, reached.pages), (FetchErrorKind::Pages, 21), "{error}");
        assert!(error.message.contains("the last 20 pages had nothing new"), "{error}");
        assert_eq!(api.asked(path), 21);
    }
    let sparse = run(job("/sparse", &by_cursor)).await.unwrap();
    assert_eq!((sparse.items().len(), sparse.pages.len()), (5, 61));
}

/// Pages of four items by their numbers, in this order, of which the third is refused.
async fn shallow(numbers: &'static [i64]) -> Api {
    let api = Api::start().await;
    api.on("/items", move |asked| {
        let offset: usize = asked.query("offset").unwrap().parse().unwrap();
        if offset >= 8 {
            return Answer::text(416, "the offset is too large");
        }
        let page = numbers.iter().enumerate().skip(offset).take(4);
        Answer::json(&page.map(|(id, n)| json!({"id": id, "n": n})).collect())
    });
    api
}

#[tokio::test]
async fn a_run_that_cannot_reach_its_end_knows_how_far_it_read_safely() {
    let members = |api: &Api, overlap: u32| {
        let since =
            json!({"parameter": "after", "field": "/n", "format": "integer", "overlap": overlap});
        let pagination = json!({"by": "offset", "limit": 4});
        json!({"url": api.url("/items"), "pagination": pagination, "since": since})
    };
    let from = |n| Resume { since: Some(SinceValue::Integer(n)), ..Resume::default() };
    for (numbers, began, read_up_to) in [
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9][..], Resume::default(), Some(4)),
        (&[1, 2, 3, 4, 4, 6, 7, 8, 9], Resume::default(), Some(4)),
        // Of the number 4 there may be more.
        (&[1, 2, 3, 4, 4, 4, 4, 4, 4], Resume::default(), Some(3)),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9], from(3), Some(4)),
        // No more than was known.
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9], from(4), None),
        (&[9, 8, 7, 6, 5, 4, 3, 2, 1], Resume::default(), None),
        (&[1, 2, 3, 4, 5, 6, 8, 7, 9], Resume::default(), None),
        (&[4, 4, 4, 4, 4, 4, 4, 4, 4], Resume::default(), None),
    ] {
        let api = shallow(numbers).await;
        let (error, reached) = short_of_its_end(members(&api, 0), began).await;
        assert_eq!((error.kind, reached.pages), (FetchErrorKind::Status(416), 2), "{error}");
        let place = format!("page 3, {}: the API answered 416", api.url("/items"));
        assert!(error.message.starts_with(&place), "{error}");
        let since = reached.resume.and_then(|resume| resume.since);
        assert_eq!(since, read_up_to.map(SinceValue::Integer), "{numbers:?}");
    }
}
