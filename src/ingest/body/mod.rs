//! The body of a request as a bounded stream of decompressed bytes.
//!
//! Promises: at most one chunk is held at a time, and what a decoder remembers is told to the account of
//! memory before it grows; a body that arrives uncompressed is passed through without a copy;
//! nothing beyond the limits is read, neither before nor after decompression; a compressed body that is damaged, cut
//! off or followed by something else is an error, never a shorter body.
//! Refuses: stacked or unknown encodings, what is compressed without saying so, and senders that fall silent.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};
use tokio_util::io::StreamReader;

use crate::auth::Via;

/// Size of a decompressed chunk, in bytes.
pub const DECOMPRESSED_CHUNK_BYTES: usize = 128 * 1024;
/// After so many bytes other tasks may run.
const TURN_BYTES: u64 = 64 * 1024;
/// Largest zstd window, as a power of two: 8 MiB, what RFC 9659 allows a sender of `Content-Encoding: zstd` to use.
/// A frame may ask for gigabytes otherwise.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Most bytes that a brotli decoder remembers: its largest window.
const BROTLI_WINDOW_BYTES_MAX: usize = 16 << 20;
/// What a gzip or deflate decoder has at once.
const INFLATE_BYTES: usize = 64 << 10;

/// How every member of a gzip body begins.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// What no text begins with, and what it is then.
const NO_TEXT: [(&[u8], &str); 4] = [
    (GZIP_MAGIC, "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"PK\x03\x04", "a ZIP archive, or a spreadsheet's own file"),
];

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    Identity,
    Gzip,
    Zstd,
    Brotli,
    Deflate,
}

/// The header names an encoding that is not supported, or several: 415.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content encoding {0:?} is not supported; send one of gzip, zstd, br, deflate, identity")]
pub struct UnsupportedEncoding(pub String);

impl ContentEncoding {
    /// Reads the value of the header `Content-Encoding`; no header means no compression.
    pub fn from_header(value: Option<&str>) -> Result<ContentEncoding, UnsupportedEncoding> {
        let Some(value) = value else {
            return Ok(ContentEncoding::Identity);
        };
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(ContentEncoding::Identity),
            "gzip" | "x-gzip" => Ok(ContentEncoding::Gzip),
            "zstd" => Ok(ContentEncoding::Zstd),
            "br" => Ok(ContentEncoding::Brotli),
            "deflate" => Ok(ContentEncoding::Deflate),
            _ => Err(UnsupportedEncoding(value.to_owned())),
        }
    }
}

/// What a body may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes as they arrive.
    pub wire_bytes_max: u64,
    /// Most bytes after decompression.
    pub decompressed_bytes_max: u64,
    /// Longest wait for the next bytes to arrive.
    pub idle_timeout: Duration,
}

/// Which of the two limits on size was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    Wire,
    Decompressed,
}

impl fmt::Display for BodyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyLimit::Wire => "as sent",
            BodyLimit::Decompressed => "after decompression",
        })
    }
}

/// Why a body cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// 413.
    #[error("the body is longer than {limit_bytes} bytes {which}")]
    TooLarge { limit_bytes: u64, which: BodyLimit },
    /// 408.
    #[error("no bytes arrived for {} seconds", idle_timeout.as_secs_f64())]
    Idle { idle_timeout: Duration },
    /// 400: the compressed data is damaged, cut off, or followed by other bytes.
    #[error("the compressed body cannot be read: {message}")]
    Corrupt { message: String },
    /// 400: behind the compressed data there is nothing but zeros.
    #[error(
        "zero bytes follow the compressed data, as tape archives and block devices add them; leave them out"
    )]
    Padded,
    /// 415: the content is compressed, although the header does not say so, or once more than it says.
    #[error("the body is {what}: {help}")]
    Undeclared { what: &'static str, help: &'static str },
    /// 503: there is no memory for what the decoder remembers.
    #[error(
        "there is no memory left for decompressing; send it again in a moment, or less compressed"
    )]
    NoMemory,
    /// 401: the caller was shut out while the body was on its way.
    #[error("the credential is not taken any more")]
    ShutOut { via: Via },
    /// The connection failed; there may be no peer left to answer.
    #[error("the body ended early: {message}")]
    Interrupted { message: String },
}

/// Is asked for so many bytes more, and says whether they may be used.
pub type Account = Box<dyn FnMut(usize) -> bool + Send>;

type Wire = StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>;

/// Gives a body's decompressed bytes, chunk by chunk.
pub struct BodyReader {
    content: Content,
    limits: BodyLimits,
    decompressed_bytes: u64,
    /// From so many bytes on other tasks run first.
    turn_ends: u64,
    /// Room for the next decompressed chunk; its memory is used again once the chunk before was dropped.
    buffer: BytesMut,
    account: Option<(Account, Decoder)>,
}

/// What the account knows of a decoder's memory. A window is touched only as far as something was decompressed into it.
struct Decoder {
    window_bytes_max: usize,
    told_bytes: usize,
}

enum Content {
    Identity(BoxStream<'static, io::Result<Bytes>>),
    Gzip(Box<GzipDecoder<Wire>>),
    Zstd(Box<ZstdDecoder<Wire>>),
    Brotli(Box<BrotliDecoder<Wire>>),
    Zlib(Box<ZlibDecoder<Wire>>),
    RawDeflate(Box<DeflateDecoder<Wire>>),
    /// `deflate` means zlib, but some senders leave its header out: the first byte tells.
    DeflateUnknown(Box<Wire>),
    /// All of a body that is there as a whole.
    Whole(Bytes),
    /// The body ended or failed.
    Done,
}

impl BodyReader {
    /// Reads `body`, which is compressed as `encoding` says.
    pub fn new<S, E>(body: S, encoding: ContentEncoding, limits: BodyLimits) -> BodyReader
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let wire = LimitedWire::new(body, limits).boxed();
        let content = match encoding {
            ContentEncoding::Identity => Content::Identity(wire),
            ContentEncoding::Gzip => {
                Content::Gzip(Box::new(GzipDecoder::new(StreamReader::new(wire))))
            }
            ContentEncoding::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = ZstdDecoder::with_params(StreamReader::new(wire), &[window]);
                decoder.multiple_members(true);
                Content::Zstd(Box::new(decoder))
            }
            ContentEncoding::Brotli => {
                Content::Brotli(Box::new(BrotliDecoder::new(StreamReader::new(wire))))
            }
            ContentEncoding::Deflate => Content::DeflateUnknown(Box::new(StreamReader::new(wire))),
        };
        BodyReader::new_of(content, limits)
    }

    /// A body that is there as a whole.
    pub fn whole(body: Bytes, limits: BodyLimits) -> BodyReader {
        BodyReader::new_of(Content::Whole(body), limits)
    }

    fn new_of(content: Content, limits: BodyLimits) -> BodyReader {
        BodyReader {
            content,
            limits,
            decompressed_bytes: 0,
            turn_ends: TURN_BYTES,
            buffer: BytesMut::new(),
            account: None,
        }
    }

    /// Tells an account of the memory that the decoder takes; a body that is not compressed has none.
    #[must_use]
    pub fn with_account(self, account: impl FnMut(usize) -> bool + Send + 'static) -> BodyReader {
        let window_bytes_max = match &self.content {
            Content::Identity(_) | Content::Whole(_) | Content::Done => return self,
            Content::Zstd(_) => 1 << ZSTD_WINDOW_LOG_MAX,
            Content::Brotli(_) => BROTLI_WINDOW_BYTES_MAX,
            Content::Gzip(_)
            | Content::Zlib(_)
            | Content::RawDeflate(_)
            | Content::DeflateUnknown(_) => 0,
        };
        let decoder = Decoder { window_bytes_max, told_bytes: 0 };
        BodyReader { account: Some((Box::new(account), decoder)), ..self }
    }

    /// The next bytes, never empty; `None` at the end. After an error or the end there is nothing more.
    /// A call that is dropped half way loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        // What a few bytes decompress to is there without a wait, and its reader would have the thread until the end.
        if self.decompressed_bytes >= self.turn_ends {
            self.turn_ends = self.decompressed_bytes + TURN_BYTES;
            yield_now().await;
        }
        let next = match self.tell_account() {
            Ok(()) => self.read().await,
            Err(error) => Err(error),
        };
        let next = next.and_then(|chunk| self.check(chunk));
        if !matches!(next, Ok(Some(_))) {
            self.content = Content::Done;
        }
        next
    }

    /// Bytes given so far, after decompression.
    pub fn decompressed_bytes(&self) -> u64 {
        self.decompressed_bytes
    }

    /// Asks for what the decoder may come to remember with the next chunk.
    fn tell_account(&mut self) -> Result<(), BodyError> {
        let Some((account, decoder)) = &mut self.account else { return Ok(()) };
        let window = usize::try_from(self.decompressed_bytes).unwrap_or(usize::MAX);
        let window = window.min(decoder.window_bytes_max);
        let bytes = INFLATE_BYTES + DECOMPRESSED_CHUNK_BYTES + window;
        let more = bytes.saturating_sub(decoder.told_bytes);
        if more > 0 && !account(more) {
            return Err(BodyError::NoMemory);
        }
        decoder.told_bytes = bytes;
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Content::DeflateUnknown(wire) = &mut self.content {
            let first = wire.fill_buf().await.map_err(into_body_error)?.first().copied();
            self.choose_deflate(first);
        }
        let buffer = &mut self.buffer;
        match &mut self.content {
            Content::Identity(wire) => wire.next().await.transpose().map_err(into_body_error),
            Content::Gzip(_) => self.read_gzip().await,
            Content::Zstd(decoder) => decode(&mut **decoder, ZstdDecoder::get_mut, buffer).await,
            Content::Brotli(decoder) => {
                decode(&mut **decoder, BrotliDecoder::get_mut, buffer).await
            }
            Content::Zlib(decoder) => decode(&mut **decoder, ZlibDecoder::get_mut, buffer).await,
            Content::RawDeflate(decoder) => {
                decode(&mut **decoder, DeflateDecoder::get_mut, buffer).await
            }
            Content::Whole(bytes) if !bytes.is_empty() => {
                let limit_bytes = self.limits.wire_bytes_max;
                if bytes.len() as u64 > limit_bytes {
                    return Err(BodyError::TooLarge { limit_bytes, which: BodyLimit::Wire });
                }
                Ok(Some(std::mem::take(bytes)))
            }
            Content::Whole(_) | Content::DeflateUnknown(_) | Content::Done => Ok(None),
        }
    }

    /// Members may follow each other. Each has a decoder of its own, which stops where its member ends, so that what
    /// follows is known for what it is.
    async fn read_gzip(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Content::Gzip(decoder) = &mut self.content {
            self.buffer.reserve(DECOMPRESSED_CHUNK_BYTES);
            if decoder.read_buf(&mut self.buffer).await.map_err(into_body_error)? > 0 {
                return Ok(Some(self.buffer.split().freeze()));
            }
            match decoder.get_mut().fill_buf().await.map_err(into_body_error)?.first() {
                None => break,
                Some(first) if *first == GZIP_MAGIC[0] => self.begin_member(),
                Some(_) => return Err(what_follows(decoder.get_mut()).await),
            }
        }
        Ok(None)
    }

    fn begin_member(&mut self) {
        let content = std::mem::replace(&mut self.content, Content::Done);
        self.content = match content {
            Content::Gzip(decoder) => {
                Content::Gzip(Box::new(GzipDecoder::new(decoder.into_inner())))
            }
            content => content,
        };
    }

    fn help_with(&self, what: &str) -> &'static str {
        match &self.content {
            Content::Identity(_) | Content::Whole(_) if matches!(what, "gzip" | "zstd") => {
                "the header Content-Encoding must say so"
            }
            Content::Identity(_) | Content::Whole(_) => {
                "send the text itself, compressed as the header Content-Encoding says"
            }
            _ => "compress it once, as the header Content-Encoding says",
        }
    }

    /// A zlib stream begins with its method, 8, in the low half of the first byte; a raw deflate stream would only do so
    /// with a stored block whose padding is not zero, which no compressor writes.
    fn choose_deflate(&mut self, first: Option<u8>) {
        let content = std::mem::replace(&mut self.content, Content::Done);
        self.content = match content {
            Content::DeflateUnknown(wire) if first.is_none_or(|byte| byte & 0x0f == 8) => {
                Content::Zlib(Box::new(ZlibDecoder::new(*wire)))
            }
            Content::DeflateUnknown(wire) => {
                Content::RawDeflate(Box::new(DeflateDecoder::new(*wire)))
            }
            content => content,
        };
    }

    /// Counts a chunk; the first one tells whether the content is text at all.
    fn check(&mut self, chunk: Option<Bytes>) -> Result<Option<Bytes>, BodyError> {
        let Some(chunk) = chunk else {
            return Ok(None);
        };
        if self.decompressed_bytes == 0
            && let Some((_, what)) = NO_TEXT.iter().find(|(magic, _)| chunk.starts_with(magic))
        {
            return Err(BodyError::Undeclared { what, help: self.help_with(what) });
        }
        self.decompressed_bytes += chunk.len() as u64;
        let limit_bytes = self.limits.decompressed_bytes_max;
        if self.decompressed_bytes > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes, which: BodyLimit::Decompressed });
        }
        Ok(Some(chunk))
    }
}

/// Names what stands behind the compressed data, which is something.
async fn what_follows(wire: &mut Wire) -> BodyError {
    loop {
        let length = match wire.fill_buf().await {
            Ok([]) => return BodyError::Padded,
            Ok(chunk) if chunk.iter().all(|byte| *byte == 0) => chunk.len(),
            Ok(_) => {
                return BodyError::Corrupt {
                    message: "other bytes follow the compressed data".to_owned(),
                };
            }
            Err(error) => return into_body_error(error),
        };
        wire.consume(length);
    }
}

/// The next decompressed chunk; at the end, makes sure that the wire has nothing left.
async fn decode<D: AsyncRead + Unpin>(
    decoder: &mut D,
    wire: impl Fn(&mut D) -> &mut Wire,
    buffer: &mut BytesMut,
) -> Result<Option<Bytes>, BodyError> {
    buffer.reserve(DECOMPRESSED_CHUNK_BYTES);
    if decoder.read_buf(buffer).await.map_err(into_body_error)? > 0 {
        return Ok(Some(buffer.split().freeze()));
    }
    let wire = wire(decoder);
    if wire.fill_buf().await.map_err(into_body_error)?.is_empty() {
        return Ok(None);
    }
    Err(what_follows(wire).await)
}

/// The bytes as they arrive, within the limits on their number and on silence. Empty chunks are left out: a reader
/// would take one for the end.
struct LimitedWire<S> {
    /// `None` after the end or an error.
    body: Option<S>,
    bytes: u64,
    limits: BodyLimits,
    /// Runs while nothing arrives; a body that is there already never sets it.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<S> LimitedWire<S> {
    fn new(body: S, limits: BodyLimits) -> LimitedWire<S> {
        LimitedWire { body: Some(body), bytes: 0, limits, silence: None }
    }

    fn end(&mut self, error: BodyError) -> Poll<Option<io::Result<Bytes>>> {
        self.body = None;
        Poll::Ready(Some(Err(io::Error::other(error))))
    }

    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let idle_timeout = self.limits.idle_timeout;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(idle_timeout)));
        match silence.as_mut().poll(context) {
            Poll::Ready(()) => self.end(BodyError::Idle { idle_timeout }),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S, E> Stream for LimitedWire<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let wire = self.get_mut();
        loop {
            let Some(body) = &mut wire.body else { return Poll::Ready(None) };
            let Poll::Ready(next) = body.poll_next_unpin(context) else {
                return wire.poll_silence(context);
            };
            wire.silence = None;
            match next {
                None => {
                    wire.body = None;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    return wire.end(match error.into().downcast::<BodyError>() {
                        Ok(error) => *error,
                        Err(error) => BodyError::Interrupted { message: error.to_string() },
                    });
                }
                Some(Ok(chunk)) => {
                    wire.bytes += chunk.len() as u64;
                    let limit_bytes = wire.limits.wire_bytes_max;
                    if wire.bytes > limit_bytes {
                        return wire
                            .end(BodyError::TooLarge { limit_bytes, which: BodyLimit::Wire });
                    }
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
            }
        }
    }
}

/// Our own errors travel through the decoders inside an `io::Error`; any other error is the decoder's.
fn into_body_error(error: io::Error) -> BodyError {
    match error.downcast::<BodyError>() {
        Ok(error) => error,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            BodyError::Corrupt { message: "the compressed data is cut off".to_owned() }
        }
        Err(error) => BodyError::Corrupt { message: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
