//! Counting records in a WebSocket's frames without reading any JSON, so that thousands of watchers cost little.
//!
//! It is exact for the records that this program makes: each begins with `{"seq":`, and none has an object in it. Inside
//! of a string the quotes would be escaped, so no text can look like the beginning of a record.

use anyhow::{Context, bail, ensure};
use memchr::memmem::Finder;

/// What every record begins with, in the gateway's frames as in bare ones.
pub const RECORD_START: &[u8] = br#"{"seq":"#;
/// What stands before the microseconds at which a record was due, in records that tell.
const TIME_START: &[u8] = br#""sent":"#;
/// Of each frame this many bytes say what it is.
const START_BYTES: usize = 13;
const GAP_START: &[u8; START_BYTES] = br#"{"type":"gap""#;
const HELLO_START: &[u8; START_BYTES] = br#"{"type":"hell"#;
/// What stands before a gap's number of records, the last member.
const COUNT_START: &str = r#""count":"#;
/// Longest gap message, in bytes.
const GAP_BYTES_MAX: usize = 1_024;
/// Longest head of a frame from a server, in bytes.
const HEAD_BYTES_MAX: usize = 10;

const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;

/// What came so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    /// Records that gaps told of.
    pub omitted: u64,
    /// A hello came: the watcher has its place.
    pub greeted: bool,
    /// Pings that were not answered.
    pub pings: u32,
    /// When records were due, if that is looked at; to be taken out.
    pub times: Vec<u64>,
}

/// The state of one connection, across reads that end anywhere.
#[derive(Debug)]
pub struct FrameCounter {
    head: Short<HEAD_BYTES_MAX>,
    /// Bytes of the payload that did not come yet.
    left: u64,
    start: Short<START_BYTES>,
    gap: Vec<u8>,
    records: StartCounter,
    times: Option<TimeReader>,
}

impl FrameCounter {
    /// `with_times`: whether to read when each record was due, which costs more.
    pub fn new(with_times: bool) -> FrameCounter {
        FrameCounter {
            head: Short::default(),
            left: 0,
            start: Short::default(),
            gap: Vec::new(),
            records: StartCounter::new(),
            times: with_times.then(TimeReader::default),
        }
    }

    /// Counts what a read brought.
    pub fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> anyhow::Result<()> {
        while let Some(first) = bytes.first() {
            if self.left == 0 {
                self.head.push(*first);
                bytes = &bytes[1..];
                if let Some(length) = payload_length(self.head.bytes()) {
                    self.begin(length, tally)?;
                }
                continue;
            }
            let now = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (payload, rest) = bytes.split_at(now);
            self.left -= now as u64;
            self.take_payload(payload, tally)?;
            bytes = rest;
        }
        Ok(())
    }

    /// A head is complete.
    fn begin(&mut self, length: u64, tally: &mut Tally) -> anyhow::Result<()> {
        match self.head.bytes()[0] & 0x0f {
            OPCODE_CLOSE => bail!("the server closed the WebSocket"),
            OPCODE_PING => {
                ensure!(length == 0, "a ping with a payload, which is not answered here");
                tally.pings += 1;
            }
            _ => {}
        }
        self.head.clear();
        self.start.clear();
        self.gap.clear();
        self.records.matched = 0;
        self.left = length;
        Ok(())
    }

    fn take_payload(&mut self, payload: &[u8], tally: &mut Tally) -> anyhow::Result<()> {
        tally.records += self.records.count(payload);
        if let Some(times) = &mut self.times {
            times.read(payload, &mut tally.times);
        }
        let mut rest = payload;
        if !self.start.is_full() {
            let now = rest.len().min(START_BYTES - self.start.bytes().len());
            rest[..now].iter().for_each(|byte| self.start.push(*byte));
            rest = &rest[now..];
            tally.greeted |= self.start.bytes() == HELLO_START;
        }
        if self.start.bytes() == GAP_START {
            self.gap.extend_from_slice(rest);
            ensure!(self.gap.len() <= GAP_BYTES_MAX, "a gap without an end");
            if self.left == 0 {
                tally.omitted += gap_count(&self.gap)?;
            }
        }
        Ok(())
    }
}

/// A few bytes, gathered one by one.
#[derive(Debug)]
struct Short<const MAX: usize> {
    bytes: [u8; MAX],
    length: usize,
}

impl<const MAX: usize> Default for Short<MAX> {
    fn default() -> Short<MAX> {
        Short { bytes: [0; MAX], length: 0 }
    }
}

impl<const MAX: usize> Short<MAX> {
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn is_full(&self) -> bool {
        self.length == MAX
    }

    fn clear(&mut self) {
        self.length = 0;
    }
}

/// The length of the payload, once the head is complete (RFC 6455, section 5.2). Frames of a server have no mask.
fn payload_length(head: &[u8]) -> Option<u64> {
    match (head.get(1)?, head.len()) {
        (126, 4) => Some(u64::from(u16::from_be_bytes([head[2], head[3]]))),
        (127, 10) => head[2..].try_into().ok().map(u64::from_be_bytes),
        (126 | 127, _) => None,
        (length, _) => Some(u64::from(*length)),
    }
}

/// The number of records in what follows a gap's beginning.
fn gap_count(rest: &[u8]) -> anyhow::Result<u64> {
    let rest = str::from_utf8(rest)?;
    let (_, count) = rest.rsplit_once(COUNT_START).context("a gap without a count")?;
    let count = count.trim_end_matches('}');
    count.parse().with_context(|| format!("a gap of {count} records cannot be added up"))
}

/// Counts [`RECORD_START`].
#[derive(Debug)]
struct StartCounter {
    finder: Finder<'static>,
    /// So many bytes of it ended the read before. Its first byte occurs in it only once, so there is one such number.
    matched: usize,
}

impl StartCounter {
    fn new() -> StartCounter {
        StartCounter { finder: Finder::new(RECORD_START), matched: 0 }
    }

    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut count = 0;
        if self.matched > 0 {
            let rest = &RECORD_START[self.matched..];
            if bytes.starts_with(rest) {
                count = 1;
            } else if rest.starts_with(bytes) {
                self.matched += bytes.len();
                return 0;
            }
        }
        count += self.finder.find_iter(bytes).map(|_| 1).sum::<u64>();
        let longest = bytes.len().min(RECORD_START.len() - 1);
        let ends_with = |length: &usize| bytes.ends_with(&RECORD_START[..*length]);
        self.matched = (1..=longest).rev().find(ends_with).unwrap_or(0);
        count
    }
}

/// Reads the number behind each [`TIME_START`], byte by byte.
#[derive(Debug, Default)]
struct TimeReader {
    matched: usize,
    number: u64,
}

impl TimeReader {
    fn read(&mut self, bytes: &[u8], times: &mut Vec<u64>) {
        for byte in bytes {
            if self.matched == TIME_START.len() {
                if byte.is_ascii_digit() {
                    self.number = self.number.wrapping_mul(10) + u64::from(byte - b'0');
                    continue;
                }
                times.push(std::mem::take(&mut self.number));
                self.matched = 0;
            }
            self.matched = if *byte == TIME_START[self.matched] {
                self.matched + 1
            } else {
                usize::from(*byte == TIME_START[0])
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as servers send it.
    fn frame(opcode: u8, payload: &str) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                frame.push(126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload.as_bytes());
        frame
    }

    fn records(times: &[u64]) -> String {
        let record = |time: &u64| {
            format!(
                r#"{{"id":"x","user":null,"data":{{"seq":1,"note":"{{\"seq\":2","sent":{time}}}}}"#
            )
        };
        let list: Vec<String> = times.iter().map(record).collect();
        format!(r#"{{"type":"records","stream":"s","cursor":"c","records":[{}]}}"#, list.join(","))
    }

    /// One of everything, with frames of each length of head, and what it adds up to.
    fn conversation() -> (Vec<u8>, Tally) {
        let times: Vec<u64> = (1..=2_000).collect();
        let mut bytes = frame(1, r#"{"type":"hello","cursor":"c","streams":["seq"]}"#);
        bytes.extend(frame(1, &records(&times[..1])));
        bytes.extend(frame(OPCODE_PING, ""));
        bytes.extend(frame(1, r#"{"type":"gap","stream":"s","from":"a","to":"b","count":312}"#));
        bytes.extend(frame(1, &records(&times[1..4])));
        bytes.extend(frame(1, r#"{"type":"gap","stream":"s","from":"b","to":"c","count":7}"#));
        bytes.extend(frame(1, r#"{"seq":1,"sent":4711}"#));
        bytes.extend(frame(1, "{"));
        bytes.extend(frame(1, r#""seq":1"#));
        bytes.extend(frame(1, &records(&times[4..])));
        let mut times = times;
        times.insert(4, 4711);
        (bytes, Tally { records: 2_001, omitted: 319, greeted: true, pings: 1, times })
    }

    fn tally(pieces: &[&[u8]]) -> Tally {
        let mut counter = FrameCounter::new(true);
        let mut tally = Tally::default();
        for piece in pieces {
            counter.take(piece, &mut tally).unwrap();
        }
        tally
    }

    #[test]
    fn reads_may_end_anywhere() {
        let (bytes, expected) = conversation();
        assert!(bytes.len() > 0x1_0000, "a frame has the longest head");
        assert_eq!(tally(&[&bytes]), expected);
        assert_eq!(tally(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        for size in [2, 3, 5, 7, 11, 64, 1_000] {
            assert_eq!(tally(&bytes.chunks(size).collect::<Vec<_>>()), expected, "{size} a read");
        }
        // Every byte up to where frames only get longer.
        for at in 0..3_000 {
            let (before, after) = bytes.split_at(at);
            assert_eq!(tally(&[before, after]), expected, "split at {at}");
        }
    }

    #[test]
    fn what_cannot_be_added_up_is_an_error() {
        let take = |bytes: &[u8]| FrameCounter::new(false).take(bytes, &mut Tally::default());
        assert!(take(&frame(OPCODE_CLOSE, "")).is_err());
        assert!(take(&frame(1, r#"{"type":"gap","stream":"s","count":null}"#)).is_err());
        assert!(take(&frame(1, r#"{"type":"gap","stream":"s"}"#)).is_err());
        assert!(take(&frame(1, r#"{"type":"gap","stream":"s","count":1}"#)).is_ok());
    }
}
