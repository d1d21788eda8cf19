//! Streams and their tables: made, typed, keyed, widened, altered by others, and kept for so long.

pub mod altered_tables;
mod column_keys;
mod definitions;
mod hostile_names;
mod keyed;
mod keyed_direct;
mod keyed_parking;
mod partition_upkeep;
mod postgresql_words;
mod retention;
mod table_faults;
mod taken_names;
mod typed;
mod widening;
mod widening_waits;
