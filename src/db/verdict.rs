//! What an error of PostgreSQL means for the records of a batch: wait, leave some out, set a table aside, or call the operator.
//!
//! The verdict is about a statement that writes into a stream's table. The gateway's own tables have no bad rows; an error
//! there ends the session whatever it is.

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// PostgreSQL cannot at the moment: the same again, later, for as long as it takes.
    Retry,
    /// Some of the rows cannot be stored: find them, commit the others.
    Rows,
    /// The table cannot be written now: its stream waits, the others go on.
    Table,
    /// It needs the operator: tried again all the same, but rarely, and said loudly. From a statement for a stream's
    /// table it is that table's own affair, like [`Verdict::Table`].
    Stop,
}

/// The verdict for a SQLSTATE, by its class unless the code itself says more.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub fn verdict(sqlstate: &str) -> Verdict {
    match sqlstate {
        // Integrity constraint violation, found at the end of the transaction; a text that is read as a query, a path or the
        // like, in a generated column or a check.
        "40002" | "42601" => Verdict::Rows,
        // The database itself was dropped.
        "57P04" => Verdict::Stop,
        // Too slow, or cancelled from outside; a damaged page or index; what a trigger of the table can do for no record: end
        // the transaction, load its library, take another number of a sequence that is at its end, end without a row.
        "57014" | "57000" | "XX001" | "XX002" | "25001" | "58P01" | "2200H" | "2F005" => {
            Verdict::Table
        }
        _ => verdict_of_class(sqlstate.get(..2).unwrap_or_default()),
    }
}

fn verdict_of_class(class: &str) -> Verdict {
    match class {
        // Transaction state (read-only among them), savepoints, rollback, resources (disk, memory, connections),
        // operator intervention, system errors, snapshot.
        "25" | "3B" | "40" | "53" | "57" | "58" | "72" => Verdict::Retry,
        // Authorization, a database that is not there, prepared statements (a pooler in between), configuration.
        "26" | "28" | "3D" | "F0" => Verdict::Stop,
        // The connection of a foreign table or of a trigger (our own says nothing when it breaks); not supported there,
        // cursors, privileges, transactions in triggers, schema, syntax and names, objects that are locked or not in a
        // state to be written, foreign tables.
        "08" | "0A" | "24" | "2B" | "2D" | "34" | "3F" | "42" | "55" | "HV" => Verdict::Table,
        // Data, constraints, triggers, limits of an index; and any code that a trigger of the user's made up.
        _ => Verdict::Rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every class of PostgreSQL's list, with what it stands for.
    #[test]
    fn every_class_is_decided() {
        use Verdict::{Retry, Rows, Stop, Table};
        let decided = [
            ("08006", Table, "connection failure, of a foreign table"),
            ("09000", Rows, "triggered action exception"),
            ("0A000", Table, "feature not supported"),
            ("0L000", Rows, "invalid grantor, which only a trigger can bring about"),
            ("20000", Rows, "case not found"),
            ("21000", Rows, "cardinality violation"),
            ("22003", Rows, "numeric value out of range"),
            ("22P03", Rows, "invalid binary representation"),
            ("2200H", Table, "sequence at its end"),
            ("25001", Table, "a trigger that vacuums"),
            ("2F005", Table, "a trigger that returns nothing"),
            ("42601", Rows, "a text that is no query or path"),
            ("58P01", Table, "a trigger's library is gone"),
            ("23502", Rows, "not null violation"),
            ("23503", Rows, "foreign key violation"),
            ("23505", Rows, "unique violation"),
            ("23514", Rows, "check violation"),
            ("23P01", Rows, "exclusion violation"),
            ("24000", Table, "invalid cursor state"),
            ("25006", Retry, "read-only transaction, as after a failover"),
            ("25P02", Retry, "in failed transaction"),
            ("26000", Stop, "prepared statement gone"),
            ("27000", Rows, "triggered data change violation"),
            ("28P01", Stop, "invalid password"),
            ("2B000", Table, "dependent privileges"),
            ("2D000", Table, "invalid transaction termination"),
            ("2F002", Rows, "SQL routine exception"),
            ("34000", Table, "invalid cursor name"),
            ("38000", Rows, "external routine exception"),
            ("39000", Rows, "external routine invocation"),
            ("3B001", Retry, "invalid savepoint"),
            ("3D000", Stop, "database does not exist"),
            ("3F000", Table, "schema does not exist"),
            ("40001", Retry, "serialization failure"),
            ("40002", Rows, "constraint violation at commit"),
            ("40P01", Retry, "deadlock"),
            ("42501", Table, "insufficient privilege"),
            ("42703", Table, "column does not exist"),
            ("42804", Table, "datatype mismatch"),
            ("42809", Table, "wrong object type, such as a view"),
            ("42P01", Table, "table does not exist"),
            ("42P10", Table, "no unique index for the key"),
            ("44000", Rows, "with check option"),
            ("53100", Retry, "disk full"),
            ("53200", Retry, "out of memory"),
            ("53300", Retry, "too many connections"),
            ("54000", Rows, "index row too large"),
            ("55000", Table, "object not in prerequisite state"),
            ("55006", Table, "object in use"),
            ("55P03", Table, "lock not available"),
            ("57014", Table, "cancelled, or over the statement timeout"),
            ("57P01", Retry, "administrator's command"),
            ("57P03", Retry, "starting up"),
            ("57P04", Stop, "database dropped"),
            ("58030", Retry, "I/O error"),
            ("72000", Retry, "snapshot too old"),
            ("F0000", Stop, "configuration file"),
            ("HV000", Table, "foreign data wrapper"),
            ("P0001", Rows, "raised by a trigger"),
            ("TG042", Rows, "made up by a trigger"),
            ("XX000", Rows, "internal error, as extensions raise it over data"),
            ("XX002", Table, "index corrupted"),
            ("", Rows, "no code at all"),
        ];
        for (sqlstate, expected, what) in decided {
            assert_eq!(verdict(sqlstate), expected, "{sqlstate} {what}");
        }
    }
}
