//! What is asked of every request's header lines before anything reads them.
//!
//! Most fields are one value. Given twice, each reader of the request could take another one (a proxy the first, the
//! gateway the last), so that is refused, as RFC 9110 allows. Fields that are lists may come in any number of lines, which
//! mean what one line with commas between them means; they are made that line.

use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, ORIGIN,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::api::ApiError;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Fields of one value that the gateway reads. A second `Idempotency-Key` is refused where it is read; a second
/// `Content-Length` by the server, unless it says the same.
const SINGLE: [HeaderName; 5] =
    [AUTHORIZATION, CONTENT_TYPE, ORIGIN, LAST_EVENT_ID, SEC_FETCH_SITE];
/// Fields that are lists and that the gateway reads.
const LISTS: [HeaderName; 2] = [CONTENT_ENCODING, ACCEPT];

/// Refuses a request that does not say once whom it is for, as RFC 9112 (section 3.2) asks of a server: what stands before
/// the gateway may have gone by another name than what stands behind it.
pub fn check_host(version: Version, headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get_all(HOST).iter().count() {
        0 if version == Version::HTTP_11 => {
            let detail = "the header Host is missing; HTTP/1.1 asks for it in every request";
            Err(ApiError::bad_request("missing_host", detail))
        }
        0 | 1 => Ok(()),
        count => Err(repeated(&HOST, count)),
    }
}

/// Refuses what cannot be meant, and joins the lines of a list.
pub fn check(headers: &mut HeaderMap) -> Result<(), ApiError> {
    if let Some(expected) = headers.get(EXPECT)
        && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        let detail =
            "the gateway meets no expectation but 100-continue; leave out the header Expect";
        return Err(ApiError::new(StatusCode::EXPECTATION_FAILED, "expectation_failed", detail));
    }
    // Hardly any request has a field twice, and this is all that it costs the others.
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    for name in SINGLE {
        let count = headers.get_all(&name).iter().count();
        if count > 1 {
            return Err(repeated(&name, count));
        }
    }
    for name in LISTS {
        let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if lines.len() > 1
            && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b", "[..]))
        {
            headers.insert(name, joined);
        }
    }
    Ok(())
}

fn repeated(name: &HeaderName, count: usize) -> ApiError {
    let detail = format!("the header {name} comes {count} times; send it once");
    ApiError::bad_request("repeated_header", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lines: &[(&'static str, &'static str)]) -> Result<HeaderMap, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check(&mut headers).map(|()| headers)
    }

    #[test]
    fn lists_are_joined_and_single_fields_refused() {
        let joined = checked(&[("content-encoding", "gzip"), ("content-encoding", "br")]).unwrap();
        assert_eq!(joined.get_all("content-encoding").iter().count(), 1);
        assert_eq!(joined["content-encoding"], "gzip, br");
        for name in ["authorization", "content-type", "origin"] {
            assert!(checked(&[(name, "a")]).is_ok());
            let error = checked(&[(name, "a"), (name, "a")]).unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (400, "repeated_header"));
            assert!(error.detail().contains(name), "{}", error.detail());
        }
        assert!(checked(&[("cookie", "a=1"), ("cookie", "b=2")]).is_ok());
        assert!(checked(&[("expect", "100-Continue")]).is_ok());
        assert_eq!(checked(&[("expect", "magic")]).unwrap_err().status().as_u16(), 417);
    }

    #[test]
    fn a_request_says_once_whom_it_is_for() {
        let checked = |version, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            check_host(version, &headers).map_err(|error| (error.status().as_u16(), error.code()))
        };
        assert_eq!(checked(Version::HTTP_11, &["a"]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, &[""]), Ok(()));
        assert_eq!(checked(Version::HTTP_10, &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, &[]), Err((400, "missing_host")));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(checked(version, &["a", "a"]), Err((400, "repeated_header")));
        }
    }
}
