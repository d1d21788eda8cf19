//! A strict JSON scanner (RFC 8259) that knows what PostgreSQL's `jsonb` takes.
//!
//! It promises: one pass over the bytes, no tree, no recursion, and no allocation for values nested up to 64 deep.
//! It tells apart three things. [`Stop::Incomplete`]: more input may complete the value. [`Stop::Malformed`]: the
//! syntax is broken, and nothing after that place can be trusted. A [`Fault`]: the syntax is sound, so the end of
//! the value is known, but `jsonb` would refuse it; the first one is kept while scanning goes on.
//! It refuses nothing about the meaning of a value; that is the encoder's business.

mod cost;
mod extent;
mod nesting;
mod numbers;
mod strings;
#[cfg(test)]
mod tests;

pub(crate) use cost::{PLAIN_OBJECT_KEYS_MAX, excess_of};
pub(crate) use extent::Extent;
use nesting::Nesting;
pub use strings::{unescape, write_string};

/// Deepest nesting of arrays and objects in a record. PostgreSQL's own parsers recurse and stop at its stack's depth.
pub const DEPTH_MAX: usize = 1_000;

/// Why scanning ended before the end of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The input ends inside the value, and more of it may follow.
    Incomplete,
    /// This is not JSON.
    Malformed { offset: usize, message: &'static str },
}

/// What `jsonb` would refuse in syntax that is otherwise sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A raw control character inside a string. Not JSON, but the string's end is certain.
    ControlCharacter,
    InvalidUtf8,
    /// `\u0000`, which a PostgreSQL text cannot hold.
    NulCharacter,
    /// Half of a UTF-16 surrogate pair.
    LoneSurrogate,
    /// More digits than a PostgreSQL numeric can hold, before or after the point.
    NumberOutOfRange,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

/// What a value is, as far as its first pass tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    Null,
    False,
    True,
    /// A number without fraction and exponent.
    Integer,
    /// A number with a fraction or an exponent.
    Number,
    /// A string without escapes: the bytes between its quotes are its text.
    Plain,
    /// A string with escapes.
    Escaped,
    Object,
    Array,
}

/// A value's kind and its place in the input; a string's place includes the quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    pub kind: ValueKind,
    pub start: usize,
    pub end: usize,
}

impl Value {
    /// The raw text in the input that was scanned.
    pub fn raw<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        &input[self.start..self.end]
    }
}

/// Reads `input` from left to right.
#[derive(Debug)]
pub struct Scanner<'a> {
    input: &'a [u8],
    position: usize,
    at_end: bool,
    fault: Option<Fault>,
    /// Met so far in arrays and objects that were read as values.
    keys: u64,
    values: u64,
}

impl<'a> Scanner<'a> {
    /// `at_end`: nothing follows `input`.
    pub fn new(input: &'a [u8], at_end: bool) -> Scanner<'a> {
        Scanner { input, position: 0, at_end, fault: None, keys: 0, values: 0 }
    }

    pub fn input(&self) -> &'a [u8] {
        self.input
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// The first fault so far.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// What PostgreSQL's `jsonb` makes of what was read since `start`, as the number of keys and values, those of large
    /// objects counted as [`excess_of`] says. A scalar by itself is nothing of it.
    #[inline]
    pub fn members(&self, start: usize) -> u64 {
        let counted = self.keys + self.values;
        if self.keys <= PLAIN_OBJECT_KEYS_MAX {
            return counted;
        }
        counted.saturating_add(cost::excess_in(&self.input[start..self.position]))
    }

    /// Counts a member that the caller read piece by piece.
    #[inline]
    pub(crate) fn count_member(&mut self) {
        self.keys += 1;
        self.values += 1;
    }

    /// Steps over whitespace and shows the byte behind it.
    #[inline]
    pub fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            match self.input.get(self.position) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.position += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(self.ended()),
            }
        }
    }

    /// Reads one value, whatever it is. `depth`: how many arrays and objects are open around it.
    #[inline]
    pub fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let first = self.peek()?;
        let start = self.position;
        let kind = match first {
            b'{' => {
                self.container(depth)?;
                ValueKind::Object
            }
            b'[' => {
                self.container(depth)?;
                ValueKind::Array
            }
            _ => self.scalar(first)?,
        };
        Ok(Value { kind, start, end: self.position })
    }

    /// Reads the brace that opens an object; true if a key follows, false if the object is empty and read.
    /// [`Scanner::peek`] must have shown the brace.
    pub fn open_object(&mut self) -> Result<bool, Stop> {
        self.position += 1;
        if self.peek()? == b'}' {
            self.position += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads what follows a member; true if another key follows, false if the object is read.
    #[inline]
    pub fn after_member(&mut self) -> Result<bool, Stop> {
        match self.peek()? {
            b',' => {
                self.position += 1;
                self.peek()?;
                Ok(true)
            }
            b'}' => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.malformed("expected a comma or the end of the object")),
        }
    }

    /// Reads the bracket that opens an array; true if an element follows, false if the array is empty and read.
    /// [`Scanner::peek`] must have shown the bracket.
    pub fn open_array(&mut self) -> Result<bool, Stop> {
        self.position += 1;
        if self.peek()? == b']' {
            self.position += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads what follows an element; true if another one follows, false if the array is read.
    pub fn after_element(&mut self) -> Result<bool, Stop> {
        match self.peek()? {
            b',' => {
                self.position += 1;
                self.peek()?;
                Ok(true)
            }
            b']' => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.malformed("expected a comma or the end of the array")),
        }
    }

    /// Reads a key and its colon.
    #[inline]
    pub fn key(&mut self) -> Result<Value, Stop> {
        if self.peek()? != b'"' {
            return Err(self.malformed("expected a key in quotes"));
        }
        let start = self.position;
        let kind = self.string()?;
        let end = self.position;
        self.colon()?;
        Ok(Value { kind, start, end })
    }

    /// Reads a key and its colon if the key is exactly `quoted`: a raw key with its quotes, which has no escapes.
    #[inline]
    pub(crate) fn key_if(&mut self, quoted: &[u8]) -> Result<bool, Stop> {
        // An empty `quoted` stands for a name that cannot be written without escapes.
        if quoted.is_empty() || !self.input[self.position..].starts_with(quoted) {
            return Ok(false);
        }
        self.position += quoted.len();
        self.colon()?;
        Ok(true)
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Stop> {
        if self.peek()? != b':' {
            return Err(self.malformed("expected a colon after the key"));
        }
        self.position += 1;
        Ok(())
    }

    #[inline]
    fn scalar(&mut self, first: u8) -> Result<ValueKind, Stop> {
        match first {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true", ValueKind::True),
            b'f' => self.literal(b"false", ValueKind::False),
            b'n' => self.literal(b"null", ValueKind::Null),
            _ => Err(self.malformed("expected a value")),
        }
    }

    /// Reads an array or an object with all that is in it.
    fn container(&mut self, depth: usize) -> Result<(), Stop> {
        let mut nesting = Nesting::default();
        // Counted here, because a count in memory would cost each value a wait for the one before.
        let (mut keys, mut values) = (0, 0);
        loop {
            // Invariant: a value starts here.
            values += 1;
            match self.peek()? {
                opening @ (b'{' | b'[') => {
                    self.position += 1;
                    nesting.open(opening == b'{');
                    if depth + nesting.depth() > DEPTH_MAX {
                        self.note(Fault::TooDeep);
                    }
                    let next = self.peek()?;
                    if opening == b'{' && next != b'}' {
                        keys += 1;
                        self.key()?;
                        continue;
                    }
                    if opening == b'[' && next != b']' {
                        continue;
                    }
                }
                first => {
                    self.scalar(first)?;
                }
            }
            // Invariant: a value ended here, or a container opened whose end is the next byte.
            if self.close(&mut nesting)? {
                self.keys += keys;
                self.values += values;
                return Ok(());
            }
            keys += u64::from(nesting.in_object());
        }
    }

    /// Reads what follows a value: every bracket that closes here, then a comma (and a key). True if all are closed.
    #[inline]
    fn close(&mut self, nesting: &mut Nesting) -> Result<bool, Stop> {
        loop {
            let in_object = nesting.in_object();
            match self.peek()? {
                b',' => {
                    self.position += 1;
                    if in_object {
                        self.key()?;
                    }
                    return Ok(false);
                }
                b'}' if in_object => self.position += 1,
                b']' if !in_object => self.position += 1,
                _ if in_object => {
                    return Err(self.malformed("expected a comma or the end of the object"));
                }
                _ => return Err(self.malformed("expected a comma or the end of the array")),
            }
            nesting.close();
            if nesting.depth() == 0 {
                return Ok(true);
            }
        }
    }

    fn literal(&mut self, word: &'static [u8], kind: ValueKind) -> Result<ValueKind, Stop> {
        let rest = &self.input[self.position..];
        if rest.starts_with(word) {
            self.position += word.len();
            return Ok(kind);
        }
        if word.starts_with(rest) {
            return Err(self.ended());
        }
        Err(self.malformed("expected a value"))
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    #[cold]
    fn ended(&self) -> Stop {
        if self.at_end {
            let offset = self.input.len();
            Stop::Malformed { offset, message: "the input ends inside a value" }
        } else {
            Stop::Incomplete
        }
    }

    #[cold]
    fn malformed(&self, message: &'static str) -> Stop {
        Stop::Malformed { offset: self.position, message }
    }
}
