#![no_main]

mod framing;
mod streams;

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing::fuzz(
    tidegate_codec::formats::Format::Csv,
    data
));
