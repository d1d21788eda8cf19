//! Bad input of polling jobs, through a whole gateway: what people ask for and cannot have, and what APIs do that
//! they should not. A run ends with a clear error, the job goes on, and no other job notices anything.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::polling::jobs::{finished, make, run, runs};
use crate::polling::pages::Authority;
use crate::support::{
    ALLOW_LOOPBACK, Answer, Api, Compression, Gateway, ItemsApi, compressed, eventually,
};

const YEAR_MS: u64 = 31_536_000_000;
/// Most bytes that the jobs here take.
const LIMIT: usize = 1 << 20;

/// An API that does one thing, and how the run ends that meets it.
struct Case {
    name: &'static str,
    api: Api,
    /// Of the job, beside its address.
    members: Value,
    /// In the error; none: the run goes well.
    said: Option<&'static str>,
}

impl Case {
    async fn of(name: &'static str, answer: Answer, said: &'static str) -> Case {
        let api = Api::start().await;
        api.always("/items", answer);
        Case { name, api, members: json!({}), said: Some(said) }
    }

    fn with(mut self, members: &Value) -> Case {
        self.members.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self
    }

    fn going_well(self) -> Case {
        Case { said: None, ..self }
    }

    /// Makes the job, looks at its first run, and lets the API behave: the first run.
    async fn play(&self, gateway: &Gateway) -> Value {
        let Case { name, api, members, said } = self;
        let mut body = json!({
            "url": api.url("/items"), "interval_ms": YEAR_MS, "stream": name, "key": ["/id"],
            "response_bytes_max": LIMIT,
        });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let job = gateway.post("/v1/polling-jobs", &body).await.expect(201);
        let id = job["id"].as_str().unwrap();
        let first = finished(gateway, id, 0).await;
        let error = first["error"].as_str();
        match said {
            None => assert_eq!((&first["status"], error), (&json!("success"), None), "{name}"),
            Some(said) => {
                assert_eq!(first["status"], "failed", "{name}: {first}");
                let error = error.expect("a failed run says why");
                assert!(error.contains(said) && error.len() < 500, "{name}: {error}");
            }
        }
        if api.url("").starts_with("http:") {
            let answer = json!({"id": "later", "n": 1, "data": [{"id": 1}]});
            api.always("/items", Answer::json(&answer));
            let later = run(gateway, id).await;
            let went_well = (&later["status"], &later["new"]) == (&json!("success"), &json!(1));
            assert!(went_well, "{name}: the job goes on: {later}");
        }
        first
    }
}

/// Everything that an API can do wrong, at its own host each.
async fn misbehaving() -> Vec<Case> {
    let hasty = json!({"timeout_ms": 4_000});
    let shape = json!({"items": "/data"});
    let bomb = compressed(Compression::Gzip, &vec![b' '; 64 * LIMIT]).await;
    assert!(bomb.len() < LIMIT, "it is small on the line");
    let bomb = Answer::bytes(200, bomb).header("content-encoding", "gzip");
    let huge = Answer::endless("[", "1,").header("content-length", "2147483648");
    let not_utf8 = Answer::bytes(200, &b"[{\"id\":\"\xff\xfe\"}]"[..]);
    let html = "<!DOCTYPE html><html><body>Sign in</body></html>";
    let of = Case::of;
    let mut cases = vec![
        of("silent", Answer::silence(), "no whole answer within 4000 ms").await.with(&hasty),
        of("stalled", Answer::stalled("[{\"id\":1},"), "no whole answer").await.with(&hasty),
        of("endless", Answer::endless("[", "1,"), "more than 1048576 bytes").await,
        of("two_gigabytes", huge, "more than 1048576 bytes").await,
        of("gzip_bomb", bomb, "more than 1048576 bytes").await,
        of("cut", Answer::cut("[{\"id\":1},"), "the connection broke").await,
        of("html", Answer::text(200, html), "<!DOCTYPE html>").await,
        of("not_utf8", not_utf8, "not UTF-8 at byte").await,
        of("shape", Answer::json(&json!({"error": "moved"})), "/data").await.with(&shape),
        of("circle", Answer::redirect(302, "/items"), "redirects more than 5 times").await,
        of("inside", Answer::redirect(302, "http://127.0.0.3:1/"), "TIDEGATE_ALLOW_NETWORKS").await,
        of("local_file", Answer::redirect(302, "file:///etc/passwd"), "must begin with http").await,
        of("not_asked", Answer::text(304, ""), "304").await,
        of("nothing", Answer::text(204, ""), "").await.going_well(),
    ];
    for (name, status) in [("s404", 404), ("s429", 429), ("s500", 500), ("s503", 503)] {
        let text = Answer::text(status, "no");
        cases.push(Case::of(name, text, "answered").await);
    }
    let expired = Authority::new().server("127.0.0.1", 2020, 2021);
    let api = Api::start_tls(expired).await;
    cases.push(Case { name: "expired", api, members: json!({}), said: Some("expired") });
    cases
}

/// An API without a fault.
struct Neighbour {
    api: ItemsApi,
    id: String,
}

impl Neighbour {
    async fn start(gateway: &Gateway) -> Neighbour {
        let api = ItemsApi::start().await;
        api.serve("/neighbour", json!([{"id": 1}]));
        let id = make(gateway, &api, "/neighbour", json!({"interval_ms": 1_000})).await;
        Neighbour { api, id }
    }

    /// It goes on, in time, as if there were no other job.
    async fn notices_nothing(&self, gateway: &Gateway) {
        let before = self.api.asked("/neighbour");
        eventually("the neighbour runs on", async || {
            (self.api.asked("/neighbour") >= before + 3).then_some(())
        })
        .await;
        let runs = runs(gateway, &self.id).await;
        let ended = runs.iter().filter(|run| !run["finished_at"].is_null());
        assert!(ended.clone().count() >= 3);
        for run in ended {
            assert_eq!((&run["status"], &run["items"]), (&json!("success"), &json!(1)), "{run}");
        }
    }
}

#[tokio::test]
async fn whatever_an_api_does_its_run_says_it_and_the_job_and_all_others_go_on() {
    let gateway = Gateway::with(&[
        "--allow-networks=127.0.0.1/32",
        "--polling-host-spacing-ms=0",
        "--polling-answers-bytes-max=16777216",
    ])
    .await;
    let neighbour = Neighbour::start(&gateway).await;
    let hanging = Api::start().await;
    hanging.always("/items", Answer::silence());
    let body = json!({"url": hanging.url("/items"), "interval_ms": YEAR_MS, "timeout_ms": 300_000});
    gateway.post("/v1/polling-jobs", &body).await.expect(201);
    let cases = misbehaving().await;
    let (_, ()) = tokio::join!(
        join_all(cases.iter().map(|case| case.play(&gateway))),
        neighbour.notices_nothing(&gateway)
    );
    neighbour.notices_nothing(&gateway).await;
    assert_eq!(hanging.asked("/items"), 1, "it hangs all the time");
    let log = gateway.log();
    assert!(!log.contains("panic") && !log.contains("passwd"), "{log}");
}

#[tokio::test]
async fn items_that_are_doubled_or_refused_harm_no_other() {
    let gateway = Gateway::with(&ALLOW_LOOPBACK).await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "refused", "columns": columns})).await;
    let doubled = json!([{"id": 1, "v": "a"}, {"id": 2}, {"id": 1, "v": "b"}]);
    let doubled = Case::of("doubled", Answer::json(&doubled), "").await.going_well();
    let run = doubled.play(&gateway).await;
    assert_eq!((&run["items"], &run["new"], &run["duplicates"]), (&json!(3), &json!(2), &json!(1)));
    let versions = "select payload->>'v' from streams.doubled where payload->>'id' = '1'";
    assert_eq!(gateway.column::<String>(versions).await, ["b"]);
    let refused = json!([{"n": 1}, {"n": "noon"}, {"n": 1e30}, "x", {"n": 2}]);
    let refused = Case::of("refused", Answer::json(&refused), "").await.going_well();
    let run = refused.with(&json!({"key": null})).play(&gateway).await;
    assert_eq!((&run["items"], &run["new"], &run["refused"]), (&json!(5), &json!(2), &json!(3)));
    assert_eq!(gateway.column::<i32>("select n from streams.refused order by n").await, [1, 1, 2]);
}

#[tokio::test]
async fn a_job_cannot_be_changed_to_what_cannot_be() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([]));
    let id = make(&gateway, &api, "/x", json!({})).await;
    let (full, short) = (format!("/v1/polling-jobs/{id}"), format!("/polling-jobs/{id}"));
    let before = gateway.get(&full).await.expect(200);
    let huge = 1e22;
    for (path, patch, place) in [
        (&full, json!({"interval_ms": 0}), "/interval_ms"),
        (&full, json!({"interval_ms": -1}), "/interval_ms"),
        (&full, json!({"interval_ms": huge}), "/interval_ms"),
        (&full, json!({"interval_ms": YEAR_MS + 1}), "/interval_ms"),
        (&full, json!({"cron": "* * * *"}), "/cron"),
        (&full, json!({"cron": "0 0 31 2 *"}), "/cron"),
        (&full, json!({"cron": "* * * * *", "zone": "Mars/Base"}), "/zone"),
        (&full, json!({"url": "ftp://a.test/"}), "/url"),
        (&full, json!({"response_bytes_max": 0}), "/response_bytes_max"),
        (&short, json!({"pollingInterval": 0}), "/pollingInterval"),
        (&short, json!({"pollingInterval": -70_000}), "/pollingInterval"),
        (&short, json!({"pollingInterval": huge}), "/pollingInterval"),
        (&short, json!({"apiEndpoint": "users"}), "/apiEndpoint"),
    ] {
        let problem = gateway.patch(path, &patch).await.problem(422, "invalid_job");
        assert_eq!(problem["place"], place, "{patch}: {problem}");
    }
    for interval in [json!(huge), json!(YEAR_MS + 1), json!("70000"), json!(true)] {
        let body =
            json!({"userId": "7", "apiEndpoint": api.url("/x"), "pollingInterval": interval});
        let problem = gateway.post("/polling-jobs", &body).await.problem(422, "invalid_job");
        assert_eq!(problem["place"], "/pollingInterval", "{problem}");
    }
    assert_eq!(gateway.get(&full).await.expect(200), before, "nothing of it was kept");
}

#[tokio::test]
async fn credentials_in_an_address_are_sealed_whichever_way_they_come() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([]));
    let with = |user: &str| api.url("/x").replace("http://", &format!("http://{user}:hunter2@"));
    let basic = |encoded: &str| Some(format!("Basic {encoded}"));
    let body = json!({"userId": "7", "apiEndpoint": with("ada"), "pollingInterval": YEAR_MS});
    let short = gateway.post("/polling-jobs", &body).await.expect(201);
    finished(&gateway, short["id"].as_str().unwrap(), 0).await;
    assert_eq!(api.header("/x", "authorization"), basic("YWRhOmh1bnRlcjI="));

    let body = json!({"url": with("bob"), "interval_ms": YEAR_MS});
    let full = gateway.post("/v1/polling-jobs", &body).await.expect(201);
    let id = full["id"].as_str().unwrap();
    finished(&gateway, id, 0).await;
    assert_eq!(api.header("/x", "authorization"), basic("Ym9iOmh1bnRlcjI="));
    for (path, patch, sent) in [
        (format!("/v1/polling-jobs/{id}"), json!({"url": with("eve")}), "ZXZlOmh1bnRlcjI="),
        (format!("/polling-jobs/{id}"), json!({"apiEndpoint": with("ada")}), "YWRhOmh1bnRlcjI="),
    ] {
        gateway.patch(&path, &patch).await.expect(200);
        run(&gateway, id).await;
        assert_eq!(api.header("/x", "authorization"), basic(sent));
    }
    let shown = gateway.get("/v1/polling-jobs").await.expect(200);
    for job in shown["jobs"].as_array().unwrap() {
        assert_eq!(
            (&job["url"], &job["secret_headers"]),
            (&json!(api.url("/x")), &json!(["authorization"]))
        );
    }
    let kept: Vec<String> = gateway
        .column("select job::text || encode(coalesce(sealed, ''), 'escape') from tidegate.polling_jobs job")
        .await;
    assert!(!kept.concat().contains("hunter2") && !gateway.log().contains("hunter2"));
    assert!(!kept.concat().contains("aHVudGVyMg") && !kept.concat().contains("Omh1bnRlcjI"));
}
