//! Where a monitor resumes: a place in the journal, exact for every stream.
//!
//! The messages of one tick over `from..to` are ordered by stream. A monitor that dies between two of them has seen
//! some streams up to `to` and the others up to `from`; its cursor says just that, so that a resumed monitor gets
//! nothing twice and misses nothing.
//!
//! To clients a cursor is opaque text. It begins with eight digits of the journal's id: positions have a meaning only
//! together with their journal.

use std::fmt;
use std::str::FromStr;

use tidegate_record::{Position, StreamId};
use uuid::Uuid;

/// Longest text of a cursor, in bytes.
pub const CURSOR_BYTES_MAX: usize = 120;

/// A place between two records: so many rows of the entry at a position are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Point {
    /// Where an entry begins, or one ended.
    pub position: Position,
    /// Rows of the entry that begins there which lie before this point.
    pub row: u32,
}

impl Point {
    /// The point before an entry, or after the last one.
    pub fn at(position: Position) -> Point {
        Point { position, row: 0 }
    }
}

/// The first 32 bits of the journal's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalTag(u32);

impl From<Uuid> for JournalTag {
    fn from(id: Uuid) -> JournalTag {
        JournalTag(id.as_fields().0)
    }
}

/// What a monitor has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Every stream up to this point.
    At(Point),
    /// Part of what lies in `from..to`.
    Within {
        /// Streams above `stream` are done up to here.
        from: Point,
        /// Streams below `stream` are done up to here.
        to: Point,
        stream: StreamId,
        /// `stream` itself is done up to here.
        at: Point,
    },
}

impl Place {
    /// Up to where a stream's records are done.
    pub fn progress(&self, of: StreamId) -> Point {
        match *self {
            Place::At(point) => point,
            Place::Within { from, to, stream, at } => match of.cmp(&stream) {
                std::cmp::Ordering::Less => to,
                std::cmp::Ordering::Equal => at,
                std::cmp::Ordering::Greater => from,
            },
        }
    }

    /// Before it every stream is done.
    pub fn start(&self) -> Point {
        match *self {
            Place::At(point) => point,
            Place::Within { from, .. } => from,
        }
    }

    /// From it on no stream is done.
    pub fn end(&self) -> Point {
        match *self {
            Place::At(point) => point,
            Place::Within { to, .. } => to,
        }
    }
}

/// A place in one certain journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub journal: JournalTag,
    pub place: Place,
}

impl Cursor {
    /// Of a reader that remembers a place which is unknown here. (To a journal whose id begins with eight zeros it is the
    /// beginning, from where nothing is missed either.)
    pub const NOWHERE: Cursor = Cursor {
        journal: JournalTag(0),
        place: Place::At(Point { position: Position(0), row: 0 }),
    };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.journal.0)?;
        match self.place {
            Place::At(Point { position, row: 0 }) => write!(f, ".{:x}", position.0),
            Place::At(point) => write_point(f, point),
            Place::Within { from, to, stream, at } => {
                write_point(f, from)?;
                write_point(f, to)?;
                write!(f, ".{:x}", stream.0)?;
                write_point(f, at)
            }
        }
    }
}

fn write_point(f: &mut fmt::Formatter<'_>, point: Point) -> fmt::Result {
    write!(f, ".{:x}.{:x}", point.position.0, point.row)
}

/// The text was never a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a cursor; send one as it came in a monitor's message, or none to watch from now on"
)]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Cursor, InvalidCursor> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(InvalidCursor);
        }
        let (journal, rest) = text.split_once('.').ok_or(InvalidCursor)?;
        if journal.len() != 8 {
            return Err(InvalidCursor);
        }
        let numbers = rest.split('.').map(hexadecimal).collect::<Result<Vec<u64>, _>>()?;
        let place = match numbers[..] {
            [position] => Place::At(Point::at(Position(position))),
            [position, row] => Place::At(point(position, row)?),
            [from, from_row, to, to_row, stream, at, at_row] => Place::Within {
                from: point(from, from_row)?,
                to: point(to, to_row)?,
                stream: StreamId(i32::try_from(stream).map_err(|_| InvalidCursor)?),
                at: point(at, at_row)?,
            },
            _ => return Err(InvalidCursor),
        };
        if let Place::Within { from, to, at, .. } = place
            && !(from < to && from <= at && at <= to)
        {
            return Err(InvalidCursor);
        }
        let journal = u32::try_from(hexadecimal(journal)?).map_err(|_| InvalidCursor)?;
        Ok(Cursor { journal: JournalTag(journal), place })
    }
}

fn point(position: u64, row: u64) -> Result<Point, InvalidCursor> {
    let row = u32::try_from(row).map_err(|_| InvalidCursor)?;
    Ok(Point { position: Position(position), row })
}

fn hexadecimal(text: &str) -> Result<u64, InvalidCursor> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.is_empty() || !text.bytes().all(digit) {
        return Err(InvalidCursor);
    }
    u64::from_str_radix(text, 16).map_err(|_| InvalidCursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_point() -> impl Strategy<Value = Point> {
        (any::<u64>(), any::<u32>())
            .prop_map(|(position, row)| Point { position: Position(position), row })
    }

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        let within = (any_point(), any_point(), any_point(), 0..i32::MAX).prop_filter_map(
            "three points in order",
            |(a, b, c, stream)| {
                let mut points = [a, b, c];
                points.sort();
                let [from, at, to] = points;
                let stream = StreamId(stream);
                (from < to).then_some(Place::Within { from, to, stream, at })
            },
        );
        let place = prop_oneof![any_point().prop_map(Place::At), within];
        (any::<u32>(), place)
            .prop_map(|(journal, place)| Cursor { journal: JournalTag(journal), place })
    }

    proptest! {
        #[test]
        fn a_cursor_reads_what_it_shows(cursor in any_cursor()) {
            let text = cursor.to_string();
            prop_assert!(text.len() <= CURSOR_BYTES_MAX);
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in "[0-9a-f.]{0,60}|\\PC{0,20}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }

    #[test]
    fn what_was_never_a_cursor_is_refused() {
        for text in [
            "",
            "now",
            "00000000",
            "00000000.",
            "0000000g.1",
            "1.1",
            "00000000.+1",
            "00000000.1.1.1",
            "00000000.11111111111111111",
            // `to` before `from`, and `at` behind `to`
            "00000000.5.0.4.0.1.5.0",
            "00000000.5.0.6.0.1.7.0",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }

    #[test]
    fn nowhere_can_be_resumed_from() {
        assert_eq!(Cursor::NOWHERE.to_string().parse(), Ok(Cursor::NOWHERE));
    }

    #[test]
    fn progress_is_told_per_stream() {
        let point = |position| Point::at(Position(position));
        let place =
            Place::Within { from: point(8), to: point(64), stream: StreamId(5), at: point(32) };
        assert_eq!(place.progress(StreamId(4)), point(64));
        assert_eq!(place.progress(StreamId(5)), point(32));
        assert_eq!(place.progress(StreamId(6)), point(8));
    }
}
