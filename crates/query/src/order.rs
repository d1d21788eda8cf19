//! In which order records come, and where a page ends.

use tidegate_codec::Stream;

use crate::error::{Problem, shortened};
use crate::field::{Field, Root};
use crate::reader::Reader;

/// Most fields of an order.
pub const ORDER_FIELDS_MAX: usize = 8;

/// One field of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerm {
    pub field: Field,
    pub is_descending: bool,
    pub nulls_first: bool,
}

impl OrderTerm {
    fn of(root: Root, text: &str, is_descending: bool) -> OrderTerm {
        OrderTerm { field: Field::of(root, text), is_descending, nulls_first: is_descending }
    }

    /// Whether its values can be NULL.
    pub fn is_nullable(&self) -> bool {
        !matches!(self.field.root, Root::Id | Root::ReceivedAt) || !self.field.path.is_empty()
    }
}

/// The newest first. A table in partitions has its primary key over both columns.
pub(crate) fn newest_first(stream: &Stream) -> Vec<OrderTerm> {
    let mut order = vec![OrderTerm::of(Root::Id, "id", true)];
    if stream.retention_days.is_some() {
        order.insert(0, OrderTerm::of(Root::ReceivedAt, "received_at", true));
    }
    order
}

/// `order=dep_delay.desc.nullslast,carrier`: in which no two records are equal, because their ids end it.
pub(crate) fn read(stream: &Stream, text: &str) -> Result<Vec<OrderTerm>, Problem> {
    let mut reader = Reader::new(text);
    let mut order = Vec::new();
    while order.is_empty() || reader.eat(",") {
        order.push(read_term(stream, &mut reader)?);
        if order.len() > ORDER_FIELDS_MAX {
            let message = format!("an order has at most {ORDER_FIELDS_MAX} fields");
            return Err(Problem::new("too_many_fields", message));
        }
    }
    if !reader.is_at_end() {
        let message = format!("`{}` is too much behind a field", shortened(reader.rest));
        return Err(Problem::new("invalid_syntax", message));
    }
    let is_id = |term: &OrderTerm| term.field.root == Root::Id && term.field.cast.is_none();
    if let Some(place) = order.iter().position(is_id) {
        // Nothing behind an id orders anything.
        order.truncate(place + 1);
    } else {
        let is_descending = order.last().is_some_and(|term| term.is_descending);
        order.push(OrderTerm::of(Root::Id, "id", is_descending));
    }
    Ok(order)
}

fn read_term(stream: &Stream, reader: &mut Reader<'_>) -> Result<OrderTerm, Problem> {
    let field = Field::read(reader, stream, |rest| rest.starts_with(['.', ',']))?;
    let (mut is_descending, mut nulls_first) = (false, None);
    let mut words = 0;
    while reader.eat(".") {
        match reader.take_until(|rest| rest.starts_with(['.', ','])) {
            "asc" if words == 0 => is_descending = false,
            "desc" if words == 0 => is_descending = true,
            "nullsfirst" if nulls_first.is_none() => nulls_first = Some(true),
            "nullslast" if nulls_first.is_none() => nulls_first = Some(false),
            other => {
                let message = format!(
                    "behind a field come `.asc` or `.desc`, then `.nullsfirst` or `.nullslast`, not `.{}`",
                    shortened(other)
                );
                return Err(Problem::new("invalid_order", message));
            }
        }
        words += 1;
    }
    // PostgreSQL's own defaults.
    Ok(OrderTerm { field, is_descending, nulls_first: nulls_first.unwrap_or(is_descending) })
}
