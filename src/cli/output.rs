//! What commands write for people: tables, and text that harms no terminal.

use std::io::{self, Write};

/// Lays out rows under headings, two spaces apart, each column as wide as its widest cell.
pub(super) fn aligned(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading = headings.iter().map(ToString::to_string).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    let mut widths = vec![0; headings.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Writes to standard output. A reader that left (`| head`) is an error like any other, not a panic.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Text without characters that a terminal would act on.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [vec!["1".into(), "añα".into(), "-".into()], vec!["10".into(), "b".into(), "x".into()]];
        let expected = "ID  N    E\n1   añα  -\n10  b    x\n";
        assert_eq!(aligned(&["ID", "N", "E"], rows.into_iter()), expected);
    }
}
