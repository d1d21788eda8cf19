//! The types that columns are declared with, values at their limits, and the types that a table may have instead.

/// A type that a column can be declared with.
#[derive(Debug)]
pub struct Declared {
    /// As the stream's definition names it.
    pub name: &'static str,
    /// As PostgreSQL names it.
    pub in_sql: &'static str,
    /// Values, as JSON writes them and as PostgreSQL reads them; the first is an ordinary one.
    pub values: &'static [(&'static str, &'static str)],
}

/// What becomes of a record where a table has another type than the stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It is written as if nothing were different, or through a cast that loses nothing.
    Stored,
    /// The stream waits until the table is repaired.
    Parked,
}

pub const DECLARED: [Declared; 12] = [
    Declared {
        name: "boolean",
        in_sql: "boolean",
        values: &[("true", "true"), ("false", "false")],
    },
    Declared {
        name: "smallint",
        in_sql: "smallint",
        values: &[("42", "42"), ("32767", "32767"), ("-32768", "-32768"), ("0", "0")],
    },
    Declared {
        name: "integer",
        in_sql: "integer",
        values: &[
            ("42", "42"),
            ("2147483647", "2147483647"),
            ("-2147483648", "-2147483648"),
            // The first that a `real` has no room for.
            ("16777217", "16777217"),
        ],
    },
    Declared {
        name: "bigint",
        in_sql: "bigint",
        values: &[
            ("42", "42"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            // The first that a `double precision` has no room for.
            ("9007199254740993", "9007199254740993"),
        ],
    },
    Declared {
        name: "real",
        in_sql: "real",
        values: &[
            ("0.1", "0.1"),
            ("3.4028235e38", "3.4028235e38"),
            ("1e-45", "1e-45"),
            ("\"NaN\"", "NaN"),
            ("\"-Infinity\"", "-Infinity"),
        ],
    },
    Declared {
        name: "double precision",
        in_sql: "double precision",
        values: &[
            ("0.1", "0.1"),
            ("-1.7976931348623157e308", "-1.7976931348623157e308"),
            ("5e-324", "5e-324"),
            ("\"NaN\"", "NaN"),
            ("\"Infinity\"", "Infinity"),
        ],
    },
    Declared {
        name: "numeric",
        in_sql: "numeric",
        values: &[
            ("1.50", "1.50"),
            (
                "123456789012345678901234567890.123456789",
                "123456789012345678901234567890.123456789",
            ),
            ("-1e-20", "-1e-20"),
            ("42", "42"),
            ("\"NaN\"", "NaN"),
        ],
    },
    Declared {
        name: "text",
        in_sql: "text",
        values: &[
            ("\"42\"", "42"),
            ("\"\"", ""),
            (
                "\"  quote\\\" back\\\\slash\\n\\u00e9\\ud83d\\ude00 \"",
                "  quote\" back\\slash\né😀 ",
            ),
            ("\"{\\\"a\\\":1}\"", "{\"a\":1}"),
        ],
    },
    Declared {
        name: "timestamptz",
        in_sql: "timestamp with time zone",
        values: &[
            ("\"2013-01-01T05:00:00.123456+05:30\"", "2013-01-01 05:00:00.123456+05:30"),
            ("\"294276-12-31T23:59:59.999999Z\"", "294276-12-31 23:59:59.999999Z"),
            ("\"0044-03-15 12:00:00Z BC\"", "0044-03-15 12:00:00Z BC"),
            ("\"infinity\"", "infinity"),
        ],
    },
    Declared {
        name: "date",
        in_sql: "date",
        values: &[
            ("\"2024-02-29\"", "2024-02-29"),
            ("\"5874897-12-31\"", "5874897-12-31"),
            ("\"0044-03-15 BC\"", "0044-03-15 BC"),
            ("\"-infinity\"", "-infinity"),
        ],
    },
    Declared {
        name: "uuid",
        in_sql: "uuid",
        values: &[
            ("\"018f4d2a-0000-7000-8000-00000000abcd\"", "018f4d2a-0000-7000-8000-00000000abcd"),
            ("\"00000000-0000-0000-0000-000000000000\"", "00000000-0000-0000-0000-000000000000"),
            ("\"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\"", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ],
    },
    Declared {
        name: "jsonb",
        in_sql: "jsonb",
        values: &[
            ("{\"b\":\"é\",\"a\":[1,2.50,null]}", "{\"b\":\"é\",\"a\":[1,2.50,null]}"),
            ("[]", "[]"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("\"\\u0001\"", "\"\\u0001\""),
        ],
    },
];

/// Types of PostgreSQL that no stream declares; `{}` is the declared one, `{_}` the same as a part of a name.
pub const OTHERS: [&str; 28] = [
    "varchar",
    "varchar(10)",
    "varchar(1000)",
    "bpchar",
    "char(10)",
    "\"char\"",
    "name",
    "numeric(10,2)",
    "numeric(40)",
    "money",
    "oid",
    "timestamp",
    "timestamptz(0)",
    "time",
    "timetz",
    "interval",
    "bytea",
    "bit(8)",
    "varbit",
    "inet",
    "point",
    "int4range",
    "json",
    "xml",
    "{}[]",
    "over_{_}",
    "mood",
    "pair",
];

/// Types into which no unique index can be.
const WITHOUT_ORDER: [&str; 3] = ["json", "xml", "point"];

/// What a user of the database makes for [`OTHERS`].
pub fn setup() -> String {
    let domains = DECLARED.iter().map(|declared| {
        format!("create domain over_{} as {};", underscored(declared.name), declared.in_sql)
    });
    let domains: String = domains.collect();
    format!(
        "{domains} create type mood as enum ('42', 'true', 'fine'); create type pair as (a int, b int);"
    )
}

impl Declared {
    /// Every type that a table may have instead, this one among them.
    pub fn instead(&self) -> Vec<String> {
        let other =
            |other: &str| other.replace("{}", self.in_sql).replace("{_}", &underscored(self.name));
        let declared = DECLARED.iter().map(|declared| declared.in_sql.to_owned());
        declared.chain(OTHERS.map(other)).collect()
    }

    /// What becomes of records while the table has this type.
    pub fn fits(&self, table: &str) -> Fit {
        let lossless: &[&str] = match self.name {
            "smallint" => &["integer", "bigint", "numeric", "real", "double precision"],
            "integer" => &["bigint", "numeric", "double precision"],
            "bigint" => &["numeric"],
            "real" => &["double precision"],
            "jsonb" => &["json"],
            _ => &[],
        };
        let takes_all = ["text", "varchar"];
        if table == self.in_sql || lossless.contains(&table) || takes_all.contains(&table) {
            Fit::Stored
        } else {
            Fit::Parked
        }
    }

    /// A condition: a column has this value of the list (NULL after the last), as it was sent, in a table of this type.
    pub fn equals(&self, column: &str, number: usize, table: &str) -> String {
        let Some((_, literal)) = self.values.get(number) else {
            return format!("{column} is null");
        };
        let declared = self.in_sql;
        let sent = format!("'{}'::{declared}", literal.replace('\'', "''"));
        let as_declared = format!("{column}::{declared}");
        let mut conditions = vec![
            format!("{as_declared} = {sent}"),
            // As JSON.
            format!("to_jsonb({as_declared}) = to_jsonb({sent})"),
        ];
        if table != "json" {
            conditions.push(format!("{column}::text = ({sent}::{table})::text"));
        }
        format!("({})", conditions.join(" and "))
    }
}

/// Can a unique index be over a column of this type?
pub fn has_order(table: &str) -> bool {
    !WITHOUT_ORDER.contains(&table)
}

fn underscored(name: &str) -> String {
    name.replace(' ', "_")
}
