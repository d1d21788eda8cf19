//! Bodies as senders compress them.

use async_compression::tokio::write;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A way to compress that the gateway reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
    Brotli,
    /// `deflate` as the RFC means it: in a zlib wrapper.
    Deflate,
    /// `deflate` as some senders mean it: without one.
    RawDeflate,
}

impl Compression {
    pub const ALL: [Compression; 5] = [
        Compression::Gzip,
        Compression::Zstd,
        Compression::Brotli,
        Compression::Deflate,
        Compression::RawDeflate,
    ];

    /// The value of `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Brotli => "br",
            Compression::Deflate | Compression::RawDeflate => "deflate",
        }
    }
}

/// The compressed form of `data`.
pub async fn compressed(compression: Compression, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Gzip => finish(write::GzipEncoder::new(&mut out), data).await,
        Compression::Zstd => finish(write::ZstdEncoder::new(&mut out), data).await,
        Compression::Brotli => {
            let fastest = async_compression::Level::Fastest;
            finish(write::BrotliEncoder::with_quality(&mut out, fastest), data).await;
        }
        Compression::Deflate => finish(write::ZlibEncoder::new(&mut out), data).await,
        Compression::RawDeflate => finish(write::DeflateEncoder::new(&mut out), data).await,
    }
    out
}

async fn finish(mut encoder: impl AsyncWrite + Unpin, data: &[u8]) {
    encoder.write_all(data).await.expect("memory takes everything");
    encoder.shutdown().await.expect("memory takes everything");
}
