//! The file that keeps the journal's identity, which each segment's header has too.
//!
//! One line of text: `tidegate journal 1 <id> <secret> <crc>`.

use std::io;
use std::path::Path;

use uuid::Uuid;

use super::format::Identity;
use super::storage::{Storage, StorageFile, create_whole, read_range, write_all};

pub(super) const FILE_NAME: &str = "identity";
const PREFIX: &str = "tidegate journal 1";
/// Far more than the line is long.
const LINE_BYTES_MAX: usize = 256;

/// Reads the file; `None` if it is not there, or damaged.
pub(super) fn load(storage: &dyn Storage, dir: &Path) -> io::Result<Option<Identity>> {
    let file = match storage.open(&dir.join(FILE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    read(&*file)
}

/// Reads the open file; `None` if it is damaged.
pub(super) fn read(file: &dyn StorageFile) -> io::Result<Option<Identity>> {
    let bytes = read_range(file, 0, LINE_BYTES_MAX)?;
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Ok(std::str::from_utf8(&bytes[..length]).ok().and_then(parse))
}

/// Writes the file, durably and all at once.
pub(super) fn store(storage: &dyn Storage, dir: &Path, identity: &Identity) -> io::Result<()> {
    let text = line(identity);
    create_whole(storage, &dir.join(FILE_NAME), |file| write_all(file, [text.as_bytes()], 0))?;
    storage.sync_dir(dir)
}

fn line(identity: &Identity) -> String {
    let text = format!("{PREFIX} {} {:08x}", identity.id, identity.secret);
    let crc = crc32fast::hash(text.as_bytes());
    format!("{text} {crc:08x}\n")
}

fn parse(text: &str) -> Option<Identity> {
    let mut words = text.strip_prefix(PREFIX)?.split_whitespace();
    let id = Uuid::parse_str(words.next()?).ok()?;
    let secret = u32::from_str_radix(words.next()?, 16).ok()?;
    let identity = Identity { id, secret };
    (line(&identity) == text).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_to_the_line_is_noticed() {
        let identity = Identity::random();
        let text = line(&identity);
        assert_eq!(parse(&text), Some(identity));
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(parse(&changed), None, "{changed}");
            assert_eq!(parse(&text[..index]), None);
        }
    }
}
