//! The members of a JSON object that a person sent, taken out one by one, so that an error names its place and a member
//! that is not known is an error.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::pointer::Pointer;

/// Why something that was asked for cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Invalid {
    /// Where in the request, as a JSON pointer.
    pub place: String,
    pub message: String,
}

/// Something is wrong at `place`.
pub fn invalid(place: impl Into<String>, message: impl Into<String>) -> Invalid {
    Invalid { place: place.into(), message: message.into() }
}

/// What is left of the object.
#[derive(Debug)]
pub struct Members(Map<String, Value>);

impl Members {
    pub fn new(members: Map<String, Value>) -> Members {
        Members(members)
    }

    /// Takes the member `name`; `None` if it is not there or null.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Invalid> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| invalid(format!("/{name}"), error.to_string())),
        }
    }

    /// All members that are meant have been taken: what is left is a mistake.
    pub fn finish(self) -> Result<(), Invalid> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(invalid(Pointer::member(name).to_string(), "there is no such member"))
            }
        }
    }
}

/// Changes `target` as a JSON merge patch (RFC 7396) says: null takes a member away, objects are merged.
pub fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match (target.get_mut(&name), value) {
            (_, Value::Null) => {
                target.remove(&name);
            }
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            (_, value) => {
                target.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn errors_name_their_place_and_nothing_is_left_over() {
        let mut members = Members::new(object(json!({"a": 1, "b": null, "c/d": 2, "e": "x"})));
        assert_eq!(members.take::<u8>("a"), Ok(Some(1)));
        assert_eq!(members.take::<u8>("b"), Ok(None));
        assert_eq!(members.take::<u8>("missing"), Ok(None));
        assert_eq!(members.take::<u8>("e").unwrap_err().place, "/e");
        assert_eq!(members.finish().unwrap_err().place, "/c~1d");
    }

    #[test]
    fn a_patch_merges_objects_and_null_takes_away() {
        let mut target = object(json!({"a": {"x": 1, "y": 2}, "b": [1], "c": 3}));
        merge(&mut target, object(json!({"a": {"y": null, "z": 4}, "b": [2], "c": null})));
        assert_eq!(Value::Object(target), json!({"a": {"x": 1, "z": 4}, "b": [2]}));
    }
}
