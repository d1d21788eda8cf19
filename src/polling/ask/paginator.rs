//! From page to page: where a run begins, where it goes on, and where it ends.

use std::collections::HashSet;

use bytes::Bytes;
use tidegate_codec::json::ValueKind;
use url::Url;

use super::error::{FetchError, FetchErrorKind};
use crate::outbound::{Endpoint, canonical};
use crate::polling::jobs::{Definition, Pagination, Pointer, set_parameter, text_of};

/// So many pages one after the other may have nothing new while the API names another one. Some are usual where an API
/// filters what it pages over.
const EMPTY_PAGES_MAX: u32 = 20;

/// Where a run is in its pages.
#[derive(Debug)]
pub(super) struct Paginator {
    pagination: Option<Pagination>,
    pages_max: u32,
    pages: u32,
    /// The latest pages that had nothing new.
    empty_pages: u32,
    /// The first page's address, before the pagination's own parameters.
    base: Url,
    /// The addresses that were asked, as hashes.
    visited: HashSet<[u8; 16]>,
    page: u64,
    offset: u64,
    /// A page had as many items as were asked for: so a shorter one is the last.
    full_page: bool,
}

/// What matters of a page for whether another follows it.
#[derive(Debug)]
pub(super) struct AnsweredPage<'a> {
    /// Where it came from.
    pub url: &'a Url,
    pub links: &'a [String],
    pub body: Option<&'a Bytes>,
    /// All of its items.
    pub count: usize,
    /// Those that no page of this run had before.
    pub new: usize,
}

impl Paginator {
    /// `since`: the name and value of a parameter of the first page.
    pub fn new(definition: &Definition, since: Option<(&str, &str)>) -> Paginator {
        let mut base = definition.url.url().clone();
        if let Some((name, value)) = since {
            set_parameter(&mut base, name, value);
        }
        let page = match &definition.pagination {
            Some(Pagination::Page { first, .. }) => u64::from(*first),
            _ => 0,
        };
        Paginator {
            pagination: definition.pagination.clone(),
            pages_max: definition.pages_max,
            pages: 0,
            empty_pages: 0,
            base,
            visited: HashSet::new(),
            page,
            offset: 0,
            full_page: false,
        }
    }

    /// The first page's address.
    pub fn first(&mut self) -> Result<Endpoint, FetchError> {
        let mut url = self.base.clone();
        self.set_parameters(&mut url);
        self.go_to(url)
    }

    /// The address of the page after this one; `None` if that was the last.
    pub fn next(&mut self, page: &AnsweredPage<'_>) -> Result<Option<Endpoint>, FetchError> {
        let next = match self.pagination.clone() {
            None => return Ok(None),
            Some(Pagination::Link) => next_link(page)?,
            Some(Pagination::Next { pointer, parameter }) => {
                self.next_in_answer(page, &pointer, parameter.as_deref())?
            }
            Some(Pagination::Page { size, .. }) => {
                self.page += 1;
                self.counted(page, size)
            }
            Some(Pagination::Offset { limit, .. }) => {
                self.offset += page.count as u64;
                self.counted(page, Some(limit))
            }
        };
        let Some(next) = next else { return Ok(None) };
        if self.visited.contains(&canonical::digest(next.as_str().as_bytes())) {
            // Some APIs end with a link to the last page; that is no circle.
            if page.new == 0 || next == *page.url {
                return Ok(None);
            }
            let message = "the pages go round in a circle: the next page was there before";
            return Err(FetchError::new(FetchErrorKind::Pages, message));
        }
        self.empty_pages = if page.new == 0 { self.empty_pages + 1 } else { 0 };
        if self.empty_pages >= EMPTY_PAGES_MAX {
            let message = format!(
                "the last {EMPTY_PAGES_MAX} pages had nothing new, and the API names another one all the same"
            );
            return Err(FetchError::new(FetchErrorKind::Pages, message));
        }
        self.go_to(next).map(Some)
    }

    /// The next page by number, unless there is no more.
    fn counted(&mut self, page: &AnsweredPage<'_>, size: Option<u32>) -> Option<Url> {
        let short = size.is_some_and(|size| page.count < size as usize);
        let last = page.new == 0 || (short && self.full_page);
        self.full_page |= !short;
        if last {
            return None;
        }
        let mut url = self.base.clone();
        self.set_parameters(&mut url);
        Some(url)
    }

    fn next_in_answer(
        &self,
        page: &AnsweredPage<'_>,
        pointer: &Pointer,
        parameter: Option<&str>,
    ) -> Result<Option<Url>, FetchError> {
        let Some(body) = page.body else { return Ok(None) };
        let Some(value) = pointer.find(body).ok().flatten() else { return Ok(None) };
        let text = match value.kind {
            ValueKind::Plain | ValueKind::Escaped => text_of(value, body),
            ValueKind::Integer | ValueKind::Number if parameter.is_some() => {
                String::from_utf8_lossy(value.raw(body)).into_owned()
            }
            ValueKind::Null | ValueKind::False => return Ok(None),
            _ => {
                let message = format!("the next page at {:?} is no text", pointer.to_string());
                return Err(FetchError::new(FetchErrorKind::Pages, message));
            }
        };
        match parameter {
            _ if text.is_empty() => Ok(None),
            None => joined(page.url, &text).map(Some),
            Some(name) => {
                let mut url = self.base.clone();
                set_parameter(&mut url, name, &text);
                Ok(Some(url))
            }
        }
    }

    fn set_parameters(&self, url: &mut Url) {
        match &self.pagination {
            Some(Pagination::Page { parameter, size_parameter, size, .. }) => {
                set_parameter(url, parameter, &self.page.to_string());
                if let (Some(name), Some(size)) = (size_parameter, size) {
                    set_parameter(url, name, &size.to_string());
                }
            }
            Some(Pagination::Offset { parameter, limit_parameter, limit }) => {
                set_parameter(url, parameter, &self.offset.to_string());
                set_parameter(url, limit_parameter, &limit.to_string());
            }
            Some(Pagination::Link | Pagination::Next { .. }) | None => {}
        }
    }

    fn go_to(&mut self, url: Url) -> Result<Endpoint, FetchError> {
        if self.pages >= self.pages_max {
            let message = format!("there are more than {} pages (`pages_max`)", self.pages_max);
            return Err(FetchError::new(FetchErrorKind::Pages, message));
        }
        self.pages += 1;
        self.visited.insert(canonical::digest(url.as_str().as_bytes()));
        Endpoint::of(url).map_err(|error| {
            let message = format!("the next page's address {error}");
            FetchError::new(FetchErrorKind::Pages, message)
        })
    }
}

fn joined(base: &Url, reference: &str) -> Result<Url, FetchError> {
    let mut url = base
        .join(reference)
        .map_err(|_| FetchError::new(FetchErrorKind::Pages, "the next page's address is none"))?;
    url.set_fragment(None);
    Ok(url)
}

/// The target of `rel="next"` in the header `Link` (RFC 8288).
fn next_link(page: &AnsweredPage<'_>) -> Result<Option<Url>, FetchError> {
    for header in page.links {
        for (target, parameters) in links(header) {
            let is_next = parameters.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("rel")
                    && value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
            });
            if is_next {
                return joined(page.url, target).map(Some);
            }
        }
    }
    Ok(None)
}

/// The targets of a header `Link` with their parameters; what is not well formed ends it.
fn links(header: &str) -> Vec<(&str, Vec<(&str, String)>)> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else { break };
        let mut parameters = Vec::new();
        rest = after.trim_start();
        while let Some(after) = rest.strip_prefix(';') {
            let end = after.find(['=', ';', ',']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => parameter_value(after.trim_start()),
                None => (String::new(), after),
            };
            parameters.push((name.trim(), value));
            rest = after.trim_start();
        }
        links.push((target, parameters));
    }
    links
}

/// A token or a quoted text, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_headers_are_read_as_they_are_written() {
        let next = |header: &str| {
            let url = Url::parse("http://a.test/x/y").unwrap();
            let links = [header.to_owned()];
            let page = AnsweredPage { url: &url, links: &links, body: None, count: 0, new: 0 };
            next_link(&page).unwrap().map(String::from)
        };
        for (header, target) in [
            (r#"<http://b.test/2>; rel="next""#, Some("http://b.test/2")),
            (r"</2>;rel=next", Some("http://a.test/2")),
            (r#"<2#top> ; Rel = "last NEXT" ; title="a, b; <c>""#, Some("http://a.test/x/2")),
            (r#"<?p=1>; rel="prev", <?p=3>; rel="next""#, Some("http://a.test/x/y?p=3")),
            (
                r#"<?p=1>; title="rel=next, \"quoted\""; rel=prev, <?p=3>; x; rel=next"#,
                Some("http://a.test/x/y?p=3"),
            ),
            (r#"<?p=1>; rel="nextish""#, None),
            (r"<?p=1>; rel=", None),
            (r"<?p=1; rel=next", None),
            ("", None),
            (r#"<?p=1>; rel="next"#, Some("http://a.test/x/y?p=1")),
        ] {
            assert_eq!(next(header).as_deref(), target, "{header}");
        }
    }
}
