//! What an API's answer may cost: the memory for what is made of an answer is there before, or the answer is refused.

use serde_json::{Value, json};
use tidegate::polling::ask::{FetchError, FetchErrorKind, FetchOptions, Fetcher, Resume};
use tidegate_record::clock::Clock;

use crate::polling::fetching::{Run, only_one_answer_fits, options, run, run_from};
use crate::support::{Answer, Api, soon};

const BUDGET_BYTES: u64 = 1 << 20;

fn narrow() -> Fetcher {
    let options = FetchOptions { answers_bytes_max: BUDGET_BYTES, ..options(&["127.0.0.0/8"]) };
    Fetcher::new(options, Clock::System).unwrap()
}

async fn run_narrow(members: Value) -> Result<Run, FetchError> {
    run_from(&narrow(), members, Resume::default()).await
}

fn numbers(range: std::ops::Range<u64>) -> Value {
    range.collect()
}

#[tokio::test]
async fn what_can_never_fit_is_too_large_at_once() {
    let api = Api::start().await;
    api.always("/big", Answer::text(200, &format!("[\"{}\"]", "x".repeat(2 << 20))));
    let error = soon("no wait", run_narrow(json!({"url": api.url("/big")}))).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge, "{error}");
    assert!(error.message.contains("TIDEGATE_POLLING_ANSWERS_BYTES_MAX"), "{error}");
}

#[tokio::test]
async fn what_one_run_holds_already_is_no_reason_to_come_again() {
    let api = Api::start().await;
    // Each page fits by itself, and so does what is remembered of it.
    api.on("/pages", |asked| {
        let page: u64 = asked.query("page").unwrap().parse().unwrap();
        Answer::json(&numbers(page * 3_000..(page + 1) * 3_000))
    });
    let members = json!({"url": api.url("/pages"), "pagination": {"by": "page"}});
    let error = soon("no wait", run_narrow(members)).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge, "{error}");
}

#[tokio::test]
async fn items_take_memory_beside_their_bytes() {
    let api = Api::start().await;
    api.always("/few", Answer::json(&numbers(0..2_000)));
    assert_eq!(run_narrow(json!({"url": api.url("/few")})).await.unwrap().items().len(), 2_000);
    // Some sixty thousand bytes, and ten thousand items.
    api.always("/many", Answer::json(&numbers(0..10_000)));
    let error = run_narrow(json!({"url": api.url("/many")})).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge, "{error}");
    // Others wait for them as for bytes.
    api.always("/half", Answer::json(&numbers(0..4_000)));
    only_one_answer_fits(&narrow(), json!({"url": api.url("/half")})).await;
}

#[tokio::test]
async fn an_item_with_members_without_end_is_refused() {
    let api = Api::start().await;
    let wide = |members: usize| format!("{{{}}}", vec![r#""":0"#; members].join(","));
    api.always("/wide", Answer::text(200, &wide(100_001)));
    let error = run(json!({"url": api.url("/wide")})).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge, "{error}");
    assert!(error.message.contains("100000 members"), "{error}");
    api.always("/wide", Answer::text(200, &wide(100_000)));
    assert_eq!(run(json!({"url": api.url("/wide")})).await.unwrap().items().len(), 1);
}
