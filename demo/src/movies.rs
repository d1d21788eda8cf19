//! The movies data: 3,201 documents whose fields differ in type from film to film.

use anyhow::{Context, ensure};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const JSON: &str = include_str!("../data/movies.json");

/// The stream, as `POST /v1/streams` takes it: no columns, so its records are documents.
pub fn definition(stream: &str) -> Value {
    json!({ "name": stream })
}

/// Every film as a JSON object without its closing brace, otherwise exactly as it stands in the file.
pub fn json_records() -> anyhow::Result<Vec<String>> {
    let films: Vec<&RawValue> = serde_json::from_str(JSON).context("the movies data")?;
    films.into_iter().map(|film| object_open(film.get())).collect()
}

fn object_open(object: &str) -> anyhow::Result<String> {
    let open = object.strip_suffix('}').map(str::trim_end);
    let open = open.with_context(|| format!("the movies data holds {object}, not an object"))?;
    ensure!(open != "{", "the movies data holds an empty object");
    Ok(open.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_whole_and_every_record_is_an_object() {
        let records = json_records().expect("the embedded file is valid");
        assert_eq!(records.len(), 3_201);
        for record in records {
            let film: Value = serde_json::from_str(&format!("{record}}}")).expect("JSON");
            assert!(
                film["Title"].is_string() || film["Title"].is_number() || film["Title"].is_null()
            );
        }
    }

    #[test]
    fn only_objects_with_fields_can_be_extended() {
        assert_eq!(object_open("{\"a\": 1 }").expect("an object"), "{\"a\": 1");
        assert!(object_open("{ }").is_err());
        assert!(object_open("[1]").is_err());
    }
}
