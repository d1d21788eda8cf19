//! Tables that are not what their streams say: whatever is done to a table, a record is stored as it was sent or
//! kept aside with words, never as another value.
//!
//! Most of it is cases of one form (see [`cases`]), of which hundreds share a gateway: every pair of types
//! ([`every_pair`]), the gateway's own columns ([`own_columns`]), and tables of another shape ([`shapes`]). What needs a
//! moment of its own stands by itself ([`moments`]), and so do those who take part in a table's life: polling jobs,
//! triggers, rights ([`others`]).

mod cases;
mod every_pair;
mod kinds;
mod moments;
mod others;
mod own_columns;
mod shapes;
mod ways;

pub use moments::wait_parked_with;
