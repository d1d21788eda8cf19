//! A definition is taken out of what a person sent, or refused with its place.

use serde_json::{Map, Value, json, to_value};

use super::*;

fn taken(members: Value) -> Result<(Definition, Secrets), Invalid> {
    let members: Map<String, Value> = serde_json::from_value(members).unwrap();
    let mut members = Members::new(members);
    let taken = Definition::take(&mut members)?;
    members.finish()?;
    Ok(taken)
}

fn full() -> Value {
    json!({
        "url": "https://api.test/v1/users?x=1", "method": "POST", "body": "{}", "accept_statuses": [201],
        "headers": {"accept": "text/json"}, "secret_headers": ["x-mine"],
        "items": "/data", "key": ["/id", "/a~1b"], "on_change": "replace",
        "pagination": {"by": "next", "pointer": "/next", "parameter": "cursor"}, "pages_max": 5,
        "since": {"parameter": "since", "field": "/at", "format": "unix_ms", "overlap": 1},
        "timeout_ms": 1_000, "response_bytes_max": 1_000_000, "conditional": false,
    })
}

#[test]
fn the_json_form_comes_back() {
    let (definition, secrets) = taken(full()).unwrap();
    assert!(secrets.is_empty());
    assert_eq!(to_value(&definition).unwrap(), full());
    assert_eq!(serde_json::from_value::<Definition>(full()).unwrap(), definition);
    assert_eq!(taken(to_value(&definition).unwrap()).unwrap().0, definition);
}

#[test]
fn an_address_is_enough() {
    let (definition, secrets) = taken(json!({"url": "http://api.test/users"})).unwrap();
    assert_eq!(
        definition,
        Definition::plain("http://api.test/users".to_owned().try_into().unwrap())
    );
    assert!(secrets.is_empty());
}

#[test]
fn secrets_go_apart_and_leave_their_names() {
    let (definition, secrets) = taken(json!({
        "url": "https://ada:pw@api.test/users",
        "headers": {"X-API-Key": "hidden1", "Accept": "seen"},
        "secret_headers": {"X-Mine": "hidden2"},
    }))
    .unwrap();
    assert_eq!(definition.secret_headers, ["authorization", "x-api-key", "x-mine"]);
    assert_eq!(definition.headers.keys().collect::<Vec<_>>(), ["accept"]);
    let text = serde_json::to_string(&definition).unwrap() + &format!("{secrets:?}");
    for hidden in ["hidden1", "hidden2", "pw", "ada"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    let values: Vec<&str> = secrets.iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["Basic YWRhOnB3", "hidden1", "hidden2"]);
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (change, place) in [
        (json!({"url": null}), "/url"),
        (json!({"url": "ftp://api.test/"}), "/url"),
        (json!({"url": 7}), "/url"),
        (json!({"url": "http://a:b@api.test/", "secret_headers": {"Authorization": "x"}}), "/url"),
        (json!({"method": "DELETE"}), "/method"),
        (json!({"method": "GET"}), "/body"),
        (json!({"method": "GET", "body": null}), "/accept_statuses"),
        (json!({"accept_statuses": [226, 202]}), "/accept_statuses/1"),
        (json!({"accept_statuses": [200]}), "/accept_statuses/0"),
        (json!({"accept_statuses": 201}), "/accept_statuses"),
        (json!({"body": "x".repeat(BODY_BYTES_MAX + 1)}), "/body"),
        (json!({"headers": {"Host": "x"}}), "/headers/Host"),
        (json!({"headers": ["x"]}), "/headers"),
        (json!({"secret_headers": {"a b": "x"}}), "/secret_headers/a b"),
        (json!({"secret_headers": {"x": 1}}), "/secret_headers"),
        (json!({"secret_headers": [1]}), "/secret_headers"),
        (json!({"secret_headers": ["x", "Host"]}), "/secret_headers/1"),
        (json!({"items": "data"}), "/items"),
        (json!({"key": ["/id", ""]}), "/key/1"),
        (json!({"key": ["/id", "/id"]}), "/key/1"),
        (json!({"key": "/id"}), "/key"),
        (json!({"key": null}), "/on_change"),
        (json!({"on_change": "forget"}), "/on_change"),
        (json!({"pagination": {"by": "magic"}}), "/pagination"),
        (json!({"pagination": {"by": "offset", "limit": 0}}), "/pagination/limit"),
        (json!({"pagination": {"by": "page", "parameter": ""}}), "/pagination/parameter"),
        (json!({"pagination": {"by": "page", "size_parameter": "n"}}), "/pagination/size"),
        (json!({"pages_max": 0}), "/pages_max"),
        (json!({"pages_max": -1}), "/pages_max"),
        (json!({"pages_max": PAGES_MAX + 1}), "/pages_max"),
        (json!({"since": {"parameter": "s", "field": ""}}), "/since/field"),
        (json!({"since": {"parameter": "", "field": "/a"}}), "/since/parameter"),
        (json!({"since": {"parameter": "s", "field": "/a", "format": "iso"}}), "/since"),
        (
            json!({"since": {"parameter": "s", "field": "/a", "overlap": u32::MAX}}),
            "/since/overlap",
        ),
        (json!({"timeout_ms": 1}), "/timeout_ms"),
        (json!({"response_bytes_max": u64::MAX}), "/response_bytes_max"),
        (json!({"conditional": "yes"}), "/conditional"),
        (json!({"colour": "red"}), "/colour"),
    ] {
        let mut members: Map<String, Value> = serde_json::from_value(full()).unwrap();
        for (name, value) in serde_json::from_value::<Map<String, Value>>(change.clone()).unwrap() {
            members.insert(name, value);
        }
        let error = taken(Value::Object(members)).expect_err(&change.to_string());
        assert_eq!(error.place, place, "{change}: {error}");
    }
}
