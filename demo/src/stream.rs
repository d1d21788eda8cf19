//! The streams that the demo sends to: they exist before the first record, and can hold every one.

use anyhow::{Context, bail};
use serde_json::Value;

use crate::feed::Feed;
use crate::gateway::Gateway;

/// Creates the feed's stream unless it exists; true if it was created. A stream of that name that cannot hold the
/// feed's records is an error, for else they would be missed where they cannot be.
pub async fn ensure(gateway: &Gateway, feed: &Feed) -> anyhow::Result<bool> {
    let name = feed.stream();
    let path = format!("v1/streams/{name}");
    let definition = feed.definition();
    let mut existing = gateway.find(&path).await.with_context(|| format!("the stream {name}"))?;
    if existing.is_none() {
        let created = gateway.create("v1/streams", &definition).await;
        if created.with_context(|| format!("cannot create the stream {name}"))? {
            return Ok(true);
        }
        // Someone else was faster.
        existing = gateway.find(&path).await?;
    }
    let existing = existing.with_context(|| format!("the stream {name} comes and goes"))?;
    match misfit(&definition, &existing) {
        None => Ok(false),
        Some(reason) => bail!(
            "the stream {name} exists, but is not the demo's: {reason}; \
             let the demo use other streams with --prefix demo_"
        ),
    }
}

/// Why a stream cannot hold the records of `definition`; `None` if it can.
fn misfit(definition: &Value, existing: &Value) -> Option<String> {
    if existing.get("key").is_some_and(|key| !key.is_null()) {
        return Some("it has a key, so records that are sent may replace each other".into());
    }
    let wanted = columns(definition);
    let present = columns(existing);
    if wanted.is_empty() {
        return (!present.is_empty()).then(|| "it has declared columns".into());
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|column| !present.contains(column))
        .map(|(name, kind)| format!("{name} {kind}"))
        .collect();
    (!missing.is_empty()).then(|| format!("it lacks the columns {}", missing.join(", ")))
}

fn columns(stream: &Value) -> Vec<(&str, &str)> {
    let columns = stream.get("columns").and_then(Value::as_array);
    columns
        .into_iter()
        .flatten()
        .filter_map(|column| Some((column["name"].as_str()?, column["type"].as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{movies, weather};

    #[test]
    fn more_columns_do_no_harm_and_fewer_do() {
        let wanted = weather::definition("weather");
        assert_eq!(misfit(&wanted, &wanted), None);
        let mut existing = wanted.clone();
        let columns = existing["columns"].as_array_mut().expect("columns");
        columns.push(json!({ "name": "note", "type": "text", "default": "none" }));
        assert_eq!(misfit(&wanted, &existing), None);
        existing["columns"][16]["type"] = json!("text");
        let reason = misfit(&wanted, &existing).expect("demo_seq has another type");
        assert_eq!(reason, "it lacks the columns demo_seq bigint");
    }

    #[test]
    fn a_key_or_another_kind_is_told() {
        let wanted = movies::definition("movies");
        let document = json!({ "name": "movies", "kind": "document", "columns": [], "key": null });
        assert_eq!(misfit(&wanted, &document), None);
        assert!(misfit(&wanted, &weather::definition("movies")).is_some());
        assert!(misfit(&wanted, &json!({ "name": "movies", "key": ["/Title"] })).is_some());
        assert!(misfit(&weather::definition("weather"), &document).is_some());
    }
}
