//! How an answer of many pages is asked for page by page.

use serde::{Deserialize, Serialize};

use super::parameter::check_parameter;
use crate::polling::jobs::members::{Invalid, invalid};
use crate::polling::jobs::pointer::Pointer;

/// Most items that may be asked for in one page.
const PAGE_ITEMS_MAX: u32 = 100_000;

/// Where the next page is. Without pagination there is one page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pagination {
    /// The header `Link` with `rel="next"` has the next page's address; without it this page is the last.
    Link,
    /// The answer has it at `pointer`: the next page's address or, with `parameter`, the value that this query parameter
    /// takes. Null, an empty text, false, or nothing there: this page is the last.
    Next {
        pointer: Pointer,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parameter: Option<String>,
    },
    /// The query parameter counts the pages. The first page without anything new is the last; so is one with fewer than
    /// `size` items, once a page had so many.
    Page {
        #[serde(default = "page_parameter")]
        parameter: String,
        #[serde(default = "page_first")]
        first: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_parameter: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
    },
    /// The query parameters say how many items to leave out, and how many to send. It ends as pages do.
    Offset {
        #[serde(default = "offset_parameter")]
        parameter: String,
        #[serde(default = "limit_parameter")]
        limit_parameter: String,
        #[serde(default = "limit")]
        limit: u32,
    },
}

fn page_parameter() -> String {
    "page".to_owned()
}

fn page_first() -> u32 {
    1
}

fn offset_parameter() -> String {
    "offset".to_owned()
}

fn limit_parameter() -> String {
    "limit".to_owned()
}

fn limit() -> u32 {
    100
}

impl Pagination {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self {
            Pagination::Link => Ok(()),
            Pagination::Next { parameter, .. } => parameter
                .as_ref()
                .map_or(Ok(()), |name| check_parameter("/pagination/parameter", name)),
            Pagination::Page { parameter, size_parameter, size, .. } => {
                check_parameter("/pagination/parameter", parameter)?;
                match (size_parameter, size) {
                    (None, None | Some(_)) => check_items("size", size.unwrap_or(1)),
                    (Some(name), Some(size)) => {
                        check_parameter("/pagination/size_parameter", name)?;
                        check_items("size", *size)
                    }
                    (Some(_), None) => Err(invalid(
                        "/pagination/size",
                        "is needed with `size_parameter`: the items of one page",
                    )),
                }
            }
            Pagination::Offset { parameter, limit_parameter, limit } => {
                check_parameter("/pagination/parameter", parameter)?;
                check_parameter("/pagination/limit_parameter", limit_parameter)?;
                check_items("limit", *limit)
            }
        }
    }
}

fn check_items(member: &str, items: u32) -> Result<(), Invalid> {
    if (1..=PAGE_ITEMS_MAX).contains(&items) {
        return Ok(());
    }
    Err(invalid(format!("/pagination/{member}"), format!("must be 1 to {PAGE_ITEMS_MAX}")))
}
