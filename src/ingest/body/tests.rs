//! What a body may be, chunk by chunk, and where its limits are.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_compression::Level;
use async_compression::tokio::write as compress;
use futures::stream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::*;

const ENCODINGS: [ContentEncoding; 5] = [
    ContentEncoding::Identity,
    ContentEncoding::Gzip,
    ContentEncoding::Zstd,
    ContentEncoding::Brotli,
    ContentEncoding::Deflate,
];

const LIMITS: BodyLimits = BodyLimits {
    wire_bytes_max: 10 << 20,
    decompressed_bytes_max: 20 << 20,
    idle_timeout: Duration::from_secs(30),
};

async fn finish(mut encoder: impl AsyncWrite + Unpin, data: &[u8]) {
    encoder.write_all(data).await.unwrap();
    encoder.shutdown().await.unwrap();
}

async fn compressed(encoding: ContentEncoding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        ContentEncoding::Identity => out.extend_from_slice(data),
        ContentEncoding::Gzip => finish(compress::GzipEncoder::new(&mut out), data).await,
        ContentEncoding::Zstd => finish(compress::ZstdEncoder::new(&mut out), data).await,
        ContentEncoding::Brotli => {
            let encoder = compress::BrotliEncoder::with_quality(&mut out, Level::Fastest);
            finish(encoder, data).await;
        }
        ContentEncoding::Deflate => finish(compress::ZlibEncoder::new(&mut out), data).await,
    }
    out
}

fn chunks(
    wire: &[u8],
    size: usize,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    let chunks: Vec<_> = wire.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

async fn read_all(mut reader: BodyReader) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await? {
        assert!(!chunk.is_empty());
        all.extend_from_slice(&chunk);
    }
    assert!(reader.next().await.unwrap().is_none(), "the end stays the end");
    Ok(all)
}

async fn round(encoding: ContentEncoding, wire: &[u8], size: usize) -> Result<Vec<u8>, BodyError> {
    read_all(BodyReader::new(chunks(wire, size), encoding, LIMITS)).await
}

fn sample(bytes: usize) -> Vec<u8> {
    // Compressible but not trivially so: a multiplicative sequence between readable words.
    let mut state = 1_u32;
    let mut out = Vec::with_capacity(bytes + 16);
    while out.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(b"{\"reading\":");
        out.extend_from_slice((state >> 16).to_string().as_bytes());
        out.extend_from_slice(b"}\n");
    }
    out
}

#[tokio::test]
async fn every_encoding_gives_back_what_was_sent_in_any_chunks() {
    let data = sample(400_000);
    for encoding in ENCODINGS {
        let wire = compressed(encoding, &data).await;
        for size in [1_000, 65_536, usize::MAX >> 1] {
            assert!(round(encoding, &wire, size).await.unwrap() == data, "{encoding:?} {size}");
        }
        let wire = compressed(encoding, b"tide").await;
        assert_eq!(round(encoding, &wire, 1).await.unwrap(), b"tide", "{encoding:?}");
    }
}

#[tokio::test]
async fn identity_passes_the_same_memory_on() {
    let chunk = Bytes::from(sample(1_000));
    let address = chunk.as_ptr();
    let body = stream::iter([Ok::<_, Infallible>(Bytes::new()), Ok(chunk)]);
    let mut reader = BodyReader::new(body, ContentEncoding::Identity, LIMITS);
    assert_eq!(reader.next().await.unwrap().unwrap().as_ptr(), address);
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn members_and_frames_may_follow_each_other() {
    for encoding in [ContentEncoding::Gzip, ContentEncoding::Zstd] {
        let mut wire = compressed(encoding, b"high ").await;
        wire.extend(compressed(encoding, b"").await);
        wire.extend(compressed(encoding, b"tide").await);
        for size in [1, 7, 1_000] {
            assert_eq!(round(encoding, &wire, size).await.unwrap(), b"high tide", "{encoding:?}");
        }
    }
}

#[tokio::test]
async fn deflate_without_its_header_is_read_too() {
    let data = sample(100_000);
    let mut wire = Vec::new();
    finish(compress::DeflateEncoder::new(&mut wire), &data).await;
    assert!(round(ContentEncoding::Deflate, &wire, 100).await.unwrap() == data);
}

#[tokio::test]
async fn a_truncated_body_is_never_a_shorter_one() {
    let data = sample(3_000);
    for encoding in ENCODINGS.into_iter().skip(1) {
        let wire = compressed(encoding, &data).await;
        for length in 0..wire.len() {
            let read = round(encoding, &wire[..length], 100).await;
            assert!(
                matches!(read, Err(BodyError::Corrupt { .. })),
                "{encoding:?} cut at {length} of {}: {read:?}",
                wire.len()
            );
        }
    }
}

#[tokio::test]
async fn bytes_behind_the_compressed_data_are_refused() {
    for encoding in ENCODINGS.into_iter().skip(1) {
        let mut wire = compressed(encoding, b"tide").await;
        wire.extend_from_slice(b"{\"smuggled\":true}");
        for size in [1, 1_000] {
            let read = round(encoding, &wire, size).await;
            assert!(matches!(read, Err(BodyError::Corrupt { .. })), "{encoding:?}: {read:?}");
        }
    }
}

#[tokio::test]
async fn zeros_behind_the_compressed_data_are_named() {
    for encoding in ENCODINGS
        .into_iter()
        .filter(|encoding| !matches!(encoding, ContentEncoding::Identity | ContentEncoding::Zstd))
    {
        for zeros in [1, 2, 9, 10, 511, 100_000] {
            let mut wire = compressed(encoding, b"tide").await;
            wire.resize(wire.len() + zeros, 0);
            for size in [1, 1_000] {
                let read = round(encoding, &wire, size).await;
                assert!(matches!(read, Err(BodyError::Padded)), "{encoding:?} {zeros}: {read:?}");
            }
            wire.push(1);
            let read = round(encoding, &wire, 100).await;
            assert!(matches!(read, Err(BodyError::Corrupt { .. })), "{encoding:?}: {read:?}");
        }
    }
}

#[tokio::test]
async fn what_is_compressed_without_saying_so_is_named() {
    let told = async |encoding, wire: &[u8]| match round(encoding, wire, 1_000).await {
        Err(error @ BodyError::Undeclared { .. }) => error.to_string(),
        read => panic!("{read:?}"),
    };
    for (sent, name) in [(ContentEncoding::Gzip, "gzip"), (ContentEncoding::Zstd, "zstd")] {
        let wire = compressed(sent, b"n\n1\n").await;
        let error = told(ContentEncoding::Identity, &wire).await;
        assert!(error.contains(name) && error.contains("must say so"), "{error}");
        let twice = compressed(ContentEncoding::Gzip, &wire).await;
        let error = told(ContentEncoding::Gzip, &twice).await;
        assert!(error.contains(name) && error.contains("once"), "{error}");
        let mut whole = BodyReader::whole(wire.into(), LIMITS);
        let read = whole.next().await;
        assert!(matches!(read, Err(BodyError::Undeclared { .. })), "{read:?}");
        assert!(whole.next().await.unwrap().is_none());
    }
    let error = told(ContentEncoding::Identity, b"PK\x03\x04\x14\0").await;
    assert!(error.contains("spreadsheet"), "{error}");
    // Half of it is nothing.
    assert_eq!(round(ContentEncoding::Identity, b"PK", 10).await.unwrap(), b"PK");
}

#[tokio::test]
async fn a_flipped_bit_neither_panics_nor_grows() {
    let data = sample(2_000);
    for encoding in ENCODINGS.into_iter().skip(1) {
        let wire = compressed(encoding, &data).await;
        for at in 0..wire.len() {
            for bit in 0..8 {
                let mut damaged = wire.clone();
                damaged[at] ^= 1 << bit;
                let read = round(encoding, &damaged, 64).await;
                // Gzip and zlib carry a checksum: what is read at all is what was sent.
                let checked = match encoding {
                    ContentEncoding::Gzip => true,
                    // Without its first byte it is a raw stream, which has none.
                    ContentEncoding::Deflate => at > 0,
                    _ => false,
                };
                if let (true, Ok(read)) = (checked, &read) {
                    assert!(*read == data, "{encoding:?} byte {at} bit {bit}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_bomb_stops_at_the_limit_one_chunk_at_a_time() {
    let data = vec![b' '; 64 << 20];
    for encoding in ENCODINGS.into_iter().skip(1) {
        let wire = compressed(encoding, &data).await;
        assert!(wire.len() < 100_000, "{encoding:?} is a bomb");
        let mut reader = BodyReader::new(chunks(&wire, 1_000), encoding, LIMITS);
        let error = loop {
            match reader.next().await {
                Ok(chunk) => {
                    let length = chunk.expect("the limit comes before the end").len();
                    assert!(length <= 2 * DECOMPRESSED_CHUNK_BYTES, "{encoding:?}: {length}");
                }
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, BodyError::TooLarge { limit_bytes, which: BodyLimit::Decompressed }
                if limit_bytes == LIMITS.decompressed_bytes_max),
            "{error}"
        );
        let over = LIMITS.decompressed_bytes_max + 2 * DECOMPRESSED_CHUNK_BYTES as u64;
        assert!(reader.decompressed_bytes() <= over);
        assert!(reader.next().await.unwrap().is_none());
    }
}

/// Of a kilobyte that was on the wire, half a million records were read without a turn for another task.
#[tokio::test]
async fn while_much_comes_of_little_others_have_their_turns() {
    let bytes = 8 << 20;
    let wire = compressed(ContentEncoding::Gzip, &vec![b'a'; bytes]).await;
    let turns = AtomicUsize::new(0);
    let other = async {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    };
    let read = tokio::select! {
        read = round(ContentEncoding::Gzip, &wire, wire.len()) => read.unwrap(),
        () = other => unreachable!("it has no end"),
    };
    let turns = turns.load(Ordering::Relaxed);
    assert_eq!(read.len(), bytes);
    assert!(turns >= bytes / DECOMPRESSED_CHUNK_BYTES / 2, "{turns} turns");
}

#[tokio::test]
async fn the_wire_has_a_limit_of_its_own() {
    let limits = BodyLimits { wire_bytes_max: 1_000, ..LIMITS };
    let exact = BodyReader::new(chunks(&[1; 1_000], 300), ContentEncoding::Identity, limits);
    assert_eq!(read_all(exact).await.unwrap().len(), 1_000);
    let whole = |bytes| BodyReader::whole(Bytes::from(vec![1; bytes]), limits);
    assert_eq!(read_all(whole(1_000)).await.unwrap().len(), 1_000);
    let read = read_all(whole(1_001)).await;
    assert!(matches!(read, Err(BodyError::TooLarge { which: BodyLimit::Wire, .. })), "{read:?}");
    for encoding in ENCODINGS {
        let wire = compressed(encoding, &sample(100_000)).await;
        let read = read_all(BodyReader::new(chunks(&wire, 300), encoding, limits)).await;
        assert!(
            matches!(read, Err(BodyError::TooLarge { limit_bytes: 1_000, which: BodyLimit::Wire })),
            "{encoding:?}: {read:?}"
        );
    }
}

#[tokio::test]
async fn a_zstd_window_beyond_the_limit_is_refused() {
    // A frame header that asks for a window of 2^31 bytes, without content size or checksum, then an empty last block.
    let window_log: u8 = 31;
    let wire = [0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3, 1, 0, 0];
    let read = round(ContentEncoding::Zstd, &wire, 100).await;
    assert!(matches!(read, Err(BodyError::Corrupt { .. })), "{read:?}");
    let wire = [0x28, 0xb5, 0x2f, 0xfd, 0, (23 - 10) << 3, 1, 0, 0];
    assert_eq!(round(ContentEncoding::Zstd, &wire, 100).await.unwrap(), b"");
}

#[tokio::test(start_paused = true)]
async fn silence_is_an_error_and_slowness_is_not() {
    for encoding in ENCODINGS {
        let wire = compressed(encoding, &sample(2_000)).await;
        let half = Bytes::copy_from_slice(&wire[..wire.len() / 2]);
        let silent = stream::iter([Ok::<_, Infallible>(half)]).chain(stream::pending());
        let read = read_all(BodyReader::new(silent, encoding, LIMITS)).await;
        assert!(matches!(read, Err(BodyError::Idle { .. })), "{encoding:?}: {read:?}");

        let slow = chunks(&wire, wire.len() / 8).then(|chunk| async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            chunk
        });
        let read = read_all(BodyReader::new(slow.boxed(), encoding, LIMITS)).await;
        assert!(read.unwrap() == sample(2_000), "{encoding:?}");
    }
}

#[tokio::test]
async fn a_failing_connection_is_told_apart_from_damage() {
    for encoding in ENCODINGS {
        let body = stream::iter([Err::<Bytes, _>(io::Error::other("reset by peer"))]);
        let read = read_all(BodyReader::new(body, encoding, LIMITS)).await;
        let Err(BodyError::Interrupted { message }) = read else {
            panic!("{encoding:?}: {read:?}");
        };
        assert!(message.contains("reset by peer"));
    }
}

#[test]
fn only_one_known_encoding_is_taken() {
    let read = |text| ContentEncoding::from_header(Some(text));
    assert_eq!(ContentEncoding::from_header(None), Ok(ContentEncoding::Identity));
    assert_eq!(read("X-GZip"), Ok(ContentEncoding::Gzip));
    assert_eq!(read(" zstd "), Ok(ContentEncoding::Zstd));
    for text in ["gzip, br", "gzip,gzip", "compress", "*", "gzip;q=1"] {
        assert_eq!(read(text), Err(UnsupportedEncoding(text.to_owned())), "{text}");
    }
}

#[tokio::test]
async fn what_a_decoder_remembers_is_asked_for_before_it_is_there() {
    let data = sample(10 << 20);
    for (encoding, window_bytes) in [
        (ContentEncoding::Identity, 0),
        (ContentEncoding::Gzip, INFLATE_BYTES),
        (ContentEncoding::Deflate, INFLATE_BYTES),
        (ContentEncoding::Zstd, 1 << ZSTD_WINDOW_LOG_MAX),
        (ContentEncoding::Brotli, 10 << 20),
    ] {
        let wire = compressed(encoding, &data).await;
        let (account, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&account);
        let reader = BodyReader::new(chunks(&wire, 50_000), encoding, LIMITS);
        let mut reader = reader.with_account(move |bytes| {
            count.fetch_add(bytes, Ordering::Relaxed);
            true
        });
        while let Some(chunk) = reader.next().await.unwrap() {
            let before = usize::try_from(reader.decompressed_bytes()).unwrap() - chunk.len();
            let known = account.load(Ordering::Relaxed);
            assert!(known >= before.min(window_bytes), "{encoding:?}: {known} of {before}");
            told.store(known, Ordering::Relaxed);
        }
        let told = told.load(Ordering::Relaxed);
        let most = window_bytes + INFLATE_BYTES + DECOMPRESSED_CHUNK_BYTES;
        assert!(told <= most, "{encoding:?}: {told}");
        assert_eq!(told == 0, encoding == ContentEncoding::Identity);

        let mut left = 1 << 20;
        let reader = BodyReader::new(chunks(&wire, 50_000), encoding, LIMITS);
        let read = read_all(reader.with_account(move |bytes| {
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        }));
        let refused = matches!(read.await, Err(BodyError::NoMemory));
        assert_eq!(refused, window_bytes > 1 << 20, "{encoding:?}");
    }
}
