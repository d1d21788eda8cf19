//! What a request for records asks, in `PostgREST`'s grammar: read from its parameters, checked against the stream.
//!
//! Everything here is pure. A plan names columns by their places in the stream and carries values that PostgreSQL reads as
//! their types; what makes SQL of it needs to check nothing more. What makes no sense is a [`QueryError`], which names the
//! parameter and says what helps.
//!
//! - [`RecordsPlan`]: filters, selection, order, page, count;
//! - [`TrendPlan`]: buckets of time, groups, aggregates; [`FacetsPlan`]: the most frequent values;
//! - [`Condition`] and [`Field`], which all of them share.

mod aggregate;
mod condition;
mod cursor;
mod error;
mod facets;
mod field;
mod order;
mod reader;
mod records;
mod select;
#[cfg(test)]
mod tests;
mod trend;

pub use aggregate::{AGGREGATES_MAX, Aggregate, Function};
pub use condition::{
    Check, Comparison, Condition, DEPTH_MAX, FullText, FullTextForm, IN_VALUES_MAX, Is, TESTS_MAX,
    Test, VALUE_BYTES_MAX,
};
pub use cursor::{CURSOR_CHARACTERS_MAX, OrderValues};
pub use error::QueryError;
pub use facets::{FACET_VALUES_DEFAULT, FACET_VALUES_MAX, FacetsPlan};
pub use field::{Field, PATH_STEPS_MAX, Root, Step, Taken};
pub use order::{ORDER_FIELDS_MAX, OrderTerm};
pub use records::{Count, PAGE_RECORDS_DEFAULT, PAGE_RECORDS_MAX, RecordsPlan, SEARCH_BYTES_MAX};
pub use select::{ALIAS_BYTES_MAX, SELECT_FIELDS_MAX, Selected};
pub use trend::{
    Bucket, BucketUnit, Fill, GROUP_FIELDS_MAX, HAVING_MAX, Having, ResultColumn, TREND_ROWS_MAX,
    TrendOrder, TrendPlan,
};
