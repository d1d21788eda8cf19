//! What a run has seen of the since-field: its highest value, and whether the pages ascend by it.

use tidegate_record::UnixMicros;

use super::ascent::Ascent;
use super::items::Item;
use crate::polling::jobs::{Since, SinceValue};

/// What was seen of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SinceSeen {
    pub highest: Option<SinceValue>,
    /// Most digits that the fraction of a second had.
    pub digits: u8,
    /// Of this run's pages.
    pub ascent: Ascent,
}

impl SinceSeen {
    /// What was seen after a page of these items. An item without the field, or with something else in it, does not count.
    pub fn with_page(mut self, since: &Since, items: &[Item], now: UnixMicros) -> SinceSeen {
        self.highest = self.highest.filter(|value| value.is_of(&since.format));
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let found = since.value_of(&item.json, now);
            if let Some((value, digits)) = found {
                self.highest = self.highest.max(Some(value));
                self.digits = self.digits.max(digits);
            }
            values.push(found.map(|(value, _)| value));
        }
        self.ascent.add_page(values.into_iter());
        self
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::polling::jobs::{Pointer, SinceFormat};

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn since(format: SinceFormat, overlap: u32) -> Since {
        Since { parameter: "since".to_owned(), field: Pointer::member("at"), format, overlap }
    }

    fn items(fields: &[&str]) -> Vec<Item> {
        let item = |field: &&str| Item {
            key: [0; 16],
            content: [0; 16],
            json: Bytes::from(format!(r#"{{"at":{field}}}"#)),
        };
        fields.iter().map(item).collect()
    }

    fn next(format: SinceFormat, overlap: u32, fields: &[&str]) -> Option<String> {
        let since = since(format, overlap);
        let seen = SinceSeen::default().with_page(&since, &items(fields), NOW);
        since.written(seen.highest?, seen.digits)
    }

    fn highest(since: &Since, before: Option<SinceValue>, fields: &[&str]) -> Option<SinceValue> {
        let seen = SinceSeen { highest: before, ..SinceSeen::default() };
        seen.with_page(since, &items(fields), NOW).highest
    }

    #[test]
    fn the_highest_value_less_the_overlap_is_asked_for() {
        let times =
            [r#""2026-11-21T17:00:00+01:00""#, r#""2026-11-20""#, "null", r#""soon""#, "{}"];
        let next_of = |format| next(format, 60, &times).unwrap();
        assert_eq!(next_of(SinceFormat::Timestamp), "2026-11-21T15:59:00Z");
        assert_eq!(next_of(SinceFormat::Date), "2026-11-21");
        assert_eq!(next_of(SinceFormat::UnixSeconds), "1795276740");
        assert_eq!(next_of(SinceFormat::UnixMs), "1795276740000");
        assert_eq!(
            next(SinceFormat::UnixSeconds, 0, &["1795276740.5", "7"]).unwrap(),
            "1795276740"
        );
        assert_eq!(next(SinceFormat::UnixMs, 1, &["1795276740999"]).unwrap(), "1795276739999");
        assert_eq!(next(SinceFormat::Integer, 5, &["41", r#""42""#, "1.5"]).unwrap(), "37");
        assert_eq!(next(SinceFormat::Integer, 5, &["{}", "null"]), None);
    }

    #[test]
    fn the_mark_never_goes_back_nor_beyond_now() {
        let since = since(SinceFormat::Timestamp, 0);
        let before = Some(SinceValue::Micros(NOW.0 - 5));
        assert_eq!(highest(&since, before, &[r#""2001-01-01""#]), before);
        for future in [r#""9999-01-01""#, r#""infinity""#] {
            assert_eq!(highest(&since, before, &[future]), Some(SinceValue::Micros(NOW.0)));
        }
        let other = Some(SinceValue::Integer(5));
        assert_eq!(
            highest(&since, other, &[]),
            None,
            "a mark of another format counts for nothing"
        );
        assert_eq!(since.written(SinceValue::Integer(5), 0), None);
    }

    #[test]
    fn a_time_is_written_as_finely_as_the_values_are() {
        let next_of = |fields: &[&str]| next(SinceFormat::Timestamp, 0, fields).unwrap();
        let (whole, milliseconds, micros) = (
            r#""2026-11-21T17:00:00Z""#,
            r#""2026-11-21T16:00:00.5Z""#,
            r#""2026-11-21 15:00:00.123456+00""#,
        );
        assert_eq!(next_of(&[whole]), "2026-11-21T17:00:00Z");
        assert_eq!(next_of(&[whole, milliseconds]), "2026-11-21T17:00:00.000Z");
        assert_eq!(next_of(&[milliseconds, micros]), "2026-11-21T16:00:00.500000Z");
        assert_eq!(next_of(&[r#""2026-11-21""#, "1795276740.5"]), "2026-11-21T00:00:00Z");
    }
}
