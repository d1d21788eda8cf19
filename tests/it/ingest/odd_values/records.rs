//! What a caller may choose who reads, changes or deletes records.

use reqwest::Method;
use serde_json::json;

use super::{Sample, sample};

pub(super) fn records(samples: &mut Vec<Sample>) {
    let record = json!({"a": "x", "n": 1, "more": {"deep": ["x"]}});
    let records = "/v1/streams/{stream}/records";
    let one_record = "/v1/streams/{stream}/records/{id}";
    let by_key = "/v1/streams/{stream}/by-key/{key}";
    let (trends, facets) = ("/v1/streams/{stream}/trends", "/v1/streams/{stream}/facets");
    let questions: &[(&str, &str)] = &[
        ("n", "gt.1"),
        ("a", "in.(x,y)"),
        ("or", "(n.lt.5,a.match.x)"),
        ("search", "x"),
        ("select", "a,more:n::text,extra->b"),
        ("order", "a.desc.nullslast,n"),
        ("limit", "1"),
        ("count", "exact"),
    ];
    let trend: &[(&str, &str)] = &[
        ("bucket", "1h"),
        ("timezone", "Europe/Berlin"),
        ("by", "a"),
        ("agg", "count,avg(n),p95(n)"),
        ("having", "count.gt.0"),
        ("order", "count.desc"),
        ("fill", "previous"),
        ("n", "is.not_null"),
    ];
    let facet: &[(&str, &str)] = &[("columns", "a,n"), ("limit", "5"), ("n", "gt.0")];
    samples.extend([
        sample(Method::GET, records).at("/v1/streams/typed/records").query(questions),
        sample(Method::GET, records).at("/v1/streams/{odd}/records"),
        sample(Method::GET, one_record).at("/v1/streams/docs/records/{odd}"),
        sample(Method::PUT, one_record)
            .at("/v1/streams/changing/records/{odd}")
            .query(&[("ack", "journal")])
            .body(record.clone()),
        sample(Method::PATCH, one_record)
            .at("/v1/streams/{odd}/records/{odd}")
            .body(json!({"n": 1})),
        sample(Method::DELETE, one_record).at("/v1/streams/changing/records/{odd}"),
        sample(Method::GET, by_key).at("/v1/streams/changing/by-key/{odd}"),
        sample(Method::PUT, by_key).at("/v1/streams/changing/by-key/x").body(record.clone()),
        sample(Method::PATCH, by_key).at("/v1/streams/changing/by-key/{odd}").body(json!({"n": 1})),
        sample(Method::DELETE, by_key).at("/v1/streams/changing/by-key/{odd}"),
        sample(Method::GET, trends).at("/v1/streams/typed/trends").query(trend),
        sample(Method::PUT, one_record)
            .at("/v1/streams/changing/records/{odd}")
            .query(&[("ack", "journal")])
            .body(record.clone()),
        sample(Method::PATCH, one_record)
            .at("/v1/streams/{odd}/records/{odd}")
            .body(json!({"n": 1})),
        sample(Method::DELETE, one_record).at("/v1/streams/changing/records/{odd}"),
        sample(Method::GET, by_key).at("/v1/streams/changing/by-key/{odd}"),
        sample(Method::PUT, by_key).at("/v1/streams/changing/by-key/x").body(record.clone()),
        sample(Method::PATCH, by_key).at("/v1/streams/changing/by-key/{odd}").body(json!({"n": 1})),
        sample(Method::DELETE, by_key).at("/v1/streams/changing/by-key/{odd}"),
        sample(Method::GET, trends).at("/v1/streams/{odd}/trends"),
        sample(Method::GET, facets).at("/v1/streams/typed/facets").query(facet),
        sample(Method::GET, facets).at("/v1/streams/{odd}/facets"),
    ]);
}
