//! A request for facets: the most frequent values of some columns.

use tidegate_codec::Stream;

use crate::condition::Condition;
use crate::error::{Problem, QueryError};
use crate::records::{Filters, check_parameters, read_limit};
use crate::select::Selected;
use crate::trend::read_groups;

/// Values of a column, unless the caller says.
pub const FACET_VALUES_DEFAULT: u32 = 20;
/// Most values of a column.
pub const FACET_VALUES_MAX: u32 = 100;

/// What a request for facets asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetsPlan {
    pub condition: Condition,
    pub columns: Vec<Selected>,
    /// How many values of each.
    pub limit: u32,
}

impl FacetsPlan {
    /// The parameters that have a meaning of their own.
    pub const PARAMETERS: [&'static str; 7] =
        ["columns", "limit", "search", "and", "or", "not.and", "not.or"];

    /// Reads the parameters of a request, percent-decoded, in the order in which they came.
    ///
    /// # Errors
    /// What cannot be asked, with the parameter that asks for it.
    pub fn read(
        stream: &Stream,
        parameters: &[(String, String)],
    ) -> Result<FacetsPlan, QueryError> {
        check_parameters(parameters, &["columns", "limit", "search"])?;
        let mut filters = Filters::new(stream);
        let (mut columns, mut limit) = (None, FACET_VALUES_DEFAULT);
        for (name, value) in parameters {
            let of = |problem: Problem| problem.of(name);
            match &**name {
                "columns" => {
                    columns = Some(read_groups(stream, value, "columns").map_err(of)?);
                }
                "limit" => limit = read_limit(value, FACET_VALUES_MAX).map_err(of)?,
                _ => filters.take(name, value, &FacetsPlan::PARAMETERS)?,
            }
        }
        let columns = columns.ok_or_else(|| {
            let message =
                "name the columns whose values are counted, as in `columns=carrier,origin`";
            QueryError::new("columns", "missing_parameter", message)
        })?;
        Ok(FacetsPlan { condition: filters.finish(), columns, limit })
    }
}
