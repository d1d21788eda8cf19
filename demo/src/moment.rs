//! Moments as text: RFC 3339, as records and monitor messages carry them.

use tidegate_record::UnixMicros;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NANOS_PER_MICRO: i128 = 1_000;

/// A moment as RFC 3339 in UTC, to the microsecond.
pub fn to_text(moment: UnixMicros) -> anyhow::Result<String> {
    let nanos = i128::from(moment.0) * NANOS_PER_MICRO;
    Ok(OffsetDateTime::from_unix_timestamp_nanos(nanos)?.format(&Rfc3339)?)
}

/// Reads RFC 3339 text and remembers the last one: the records of a request share their moments, and reading each
/// of them anew would cost the monitor more than all the rest.
#[derive(Debug, Default)]
pub struct MomentReader {
    text: String,
    moment: Option<UnixMicros>,
}

impl MomentReader {
    /// The moment that `text` tells; `None` if it tells none.
    pub fn read(&mut self, text: &str) -> Option<UnixMicros> {
        if text != self.text {
            self.moment = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(to_micros);
            text.clone_into(&mut self.text);
        }
        self.moment
    }
}

fn to_micros(moment: OffsetDateTime) -> Option<UnixMicros> {
    let micros = moment.unix_timestamp_nanos() / NANOS_PER_MICRO;
    i64::try_from(micros).ok().map(UnixMicros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_was_written() {
        let mut reader = MomentReader::default();
        for micros in [0, 1, 1_795_237_200_123_456, 1_795_237_200_000_000] {
            let text = to_text(UnixMicros(micros)).expect("in range");
            assert_eq!(reader.read(&text), Some(UnixMicros(micros)), "{text}");
            assert_eq!(reader.read(&text), Some(UnixMicros(micros)), "remembered");
        }
    }

    #[test]
    fn an_offset_is_honoured_and_nonsense_is_none() {
        let mut reader = MomentReader::default();
        assert_eq!(reader.read("1970-01-01T01:00:00.000001+01:00"), Some(UnixMicros(1)));
        assert_eq!(reader.read("yesterday"), None);
        assert_eq!(reader.read("yesterday"), None);
        assert_eq!(reader.read(""), None);
    }
}
