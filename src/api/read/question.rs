//! What questions about records have in common: their parameters, and the format of the reply.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use tidegate_codec::rows::RowFormat;
use tidegate_query::QueryError;
use url::form_urlencoded;

use crate::api::ApiError;

/// How a reply is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    NdJson,
    Csv,
}

/// Formats with their words for `format` and their media types.
const FORMATS: [(Format, &str, &str); 3] = [
    (Format::Json, "json", "application/json"),
    (Format::NdJson, "ndjson", "application/x-ndjson"),
    (Format::Csv, "csv", "text/csv"),
];

/// The parameters of a query, percent-decoded.
pub fn parameters(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

impl Format {
    /// Takes `format` off the parameters; without it the header `Accept` says.
    pub fn take(
        parameters: &mut Vec<(String, String)>,
        headers: &HeaderMap,
    ) -> Result<Format, ApiError> {
        let Some(index) = parameters.iter().position(|(name, _)| name == "format") else {
            return Ok(Format::accepted(headers));
        };
        let (_, word) = parameters.remove(index);
        let found = FORMATS.iter().find(|(_, name, _)| *name == word);
        found.map(|(format, _, _)| *format).ok_or_else(|| {
            QueryError::new("format", "unknown_format", "it is json, ndjson or csv").into()
        })
    }

    /// The first that is named, else JSON.
    fn accepted(headers: &HeaderMap) -> Format {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut named = values.flat_map(|value| value.split(',')).filter_map(|part| {
            let media_type = part.split(';').next().unwrap_or_default().trim();
            let media_type = match media_type {
                "application/ndjson" => "application/x-ndjson",
                other => other,
            };
            FORMATS.iter().find(|(_, _, known)| known.eq_ignore_ascii_case(media_type))
        });
        named.next().map_or(Format::Json, |(format, _, _)| *format)
    }

    pub fn rows(self) -> RowFormat {
        match self {
            Format::Json => RowFormat::Json,
            Format::NdJson => RowFormat::NdJson,
            Format::Csv => RowFormat::Csv,
        }
    }

    /// The media type of a reply.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::NdJson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_asked_for_by_name_or_by_media_type() {
        let of = |accept: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            Format::take(&mut Vec::new(), &headers).unwrap()
        };
        assert_eq!(of("text/html,*/*;q=0.8"), Format::Json);
        assert_eq!(of("text/html, Text/CSV;q=0.5"), Format::Csv);
        assert_eq!(of("application/ndjson"), Format::NdJson);
        assert_eq!(Format::take(&mut Vec::new(), &HeaderMap::new()), Ok(Format::Json));
        let mut parameters = parameters("a=1&format=csv&b=2");
        assert_eq!(Format::take(&mut parameters, &HeaderMap::new()), Ok(Format::Csv));
        assert_eq!(parameters.len(), 2);
        let mut unknown = super::parameters("format=xml");
        assert!(Format::take(&mut unknown, &HeaderMap::new()).is_err());
    }
}
