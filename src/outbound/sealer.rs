//! Secret headers at rest: sealed with ChaCha20-Poly1305 under a key that is not in the database, and bound to the owner of
//! their row, so that a sealed text is worth nothing in another row.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tidegate_private_file as private_file;
use uuid::Uuid;

use super::secrets::Secrets;

/// Length of the key, in bytes.
pub const KEY_BYTES: usize = 32;
/// The key's file in the data directory, where no key was given.
const KEY_FILE: &str = "secret-key";
/// Says how the rest is sealed; the first byte of each sealed text.
const VERSION: u8 = 1;

/// Seals and opens. Its `Debug` shows nothing.
pub struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Secret headers that cannot be read without the key: the column `sealed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHeaders(pub Vec<u8>);

/// There is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "TIDEGATE_SECRET_KEY must be {KEY_BYTES} bytes in base64, as `openssl rand -base64 32` makes them"
    )]
    Form,
    #[error(
        "the file {KEY_FILE} of the data directory is damaged: it must have {KEY_BYTES} bytes in base64"
    )]
    Damaged,
    #[error(
        "the data directory has no key yet that secret headers could be sealed with; the gateway makes it when it starts, or give it TIDEGATE_SECRET_KEY"
    )]
    Missing,
    #[error("the file {KEY_FILE} of the data directory: {0}")]
    File(#[from] io::Error),
}

/// The sealed headers cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret headers were sealed with another key than this gateway's; give it the same TIDEGATE_SECRET_KEY, or set the headers again"
)]
pub struct OpenError;

impl Sealer {
    /// As [`Sealer::load`], but a key that is not there is made. Blocks.
    pub fn load_or_make(given: Option<&str>, data_dir: &Path) -> Result<Sealer, KeyError> {
        match Sealer::load(given, data_dir) {
            Err(KeyError::Missing) => {
                let key: [u8; KEY_BYTES] = rand::random();
                private_file::write(&data_dir.join(KEY_FILE), STANDARD.encode(key).as_bytes())?;
                Ok(Sealer::new(key))
            }
            loaded => loaded,
        }
    }

    /// With the key that was given, else with that of the data directory. Blocks.
    pub fn load(given: Option<&str>, data_dir: &Path) -> Result<Sealer, KeyError> {
        if let Some(text) = given {
            return Ok(Sealer::new(decode(text).ok_or(KeyError::Form)?));
        }
        match fs::read_to_string(data_dir.join(KEY_FILE)) {
            Ok(text) => Ok(Sealer::new(decode(&text).ok_or(KeyError::Damaged)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KeyError::Missing),
            Err(error) => Err(KeyError::File(error)),
        }
    }

    pub fn new(key: [u8; KEY_BYTES]) -> Sealer {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).expect("the key has the right length");
        Sealer(LessSafeKey::new(key))
    }

    /// Seals the headers for a row of this id.
    pub fn seal(&self, row: Uuid, secrets: &Secrets) -> SealedHeaders {
        let pairs: Vec<(&str, &str)> = secrets.iter().collect();
        let mut text = serde_json::to_vec(&pairs).expect("texts are always JSON");
        let nonce: [u8; NONCE_LEN] = rand::random();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(row.as_bytes()),
                &mut text,
            )
            .expect("headers are far shorter than what can be sealed");
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        SealedHeaders(sealed)
    }

    /// Opens what [`Sealer::seal`] made for the same row.
    pub fn open(&self, row: Uuid, sealed: &SealedHeaders) -> Result<Secrets, OpenError> {
        let (version, rest) = sealed.0.split_first().ok_or(OpenError)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError)?;
        if *version != VERSION {
            return Err(OpenError);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError)?;
        let mut text = text.to_vec();
        let text = self.0.open_in_place(nonce, Aad::from(row.as_bytes()), &mut text);
        let text = text.map_err(|_| OpenError)?;
        let pairs: Vec<(String, String)> = serde_json::from_slice(text).map_err(|_| OpenError)?;
        Ok(Secrets::new(pairs.into_iter().collect()))
    }
}

fn decode(text: &str) -> Option<[u8; KEY_BYTES]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.insert("authorization", "Bearer hunter2".to_owned());
        secrets
    }

    #[test]
    fn only_the_same_row_with_the_same_key_opens_it() {
        let sealer = Sealer::new([7; KEY_BYTES]);
        let row = Uuid::from_u128(1);
        let sealed = sealer.seal(row, &secrets());
        assert_ne!(sealed, sealer.seal(row, &secrets()), "each sealing is its own");
        assert_eq!(sealer.open(row, &sealed), Ok(secrets()));
        assert_eq!(sealer.open(Uuid::from_u128(2), &sealed), Err(OpenError));
        assert_eq!(Sealer::new([8; KEY_BYTES]).open(row, &sealed), Err(OpenError));
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert_eq!(sealer.open(row, &changed), Err(OpenError), "byte {at}");
            assert_eq!(sealer.open(row, &SealedHeaders(sealed.0[..at].to_vec())), Err(OpenError));
        }
        assert!(!sealed.0.windows(7).any(|window| window == b"hunter2"));
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let row = Uuid::from_u128(1);
        assert!(matches!(Sealer::load(None, directory.path()), Err(KeyError::Missing)));
        let sealed = Sealer::load_or_make(None, directory.path()).unwrap().seal(row, &secrets());
        let again = Sealer::load(None, directory.path()).unwrap();
        assert_eq!(again.open(row, &sealed), Ok(secrets()));
        let path = directory.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let text = fs::read_to_string(&path).unwrap();
        let given = Sealer::load(Some(&text), Path::new("/nonexistent")).unwrap();
        assert_eq!(given.open(row, &sealed), Ok(secrets()));
        assert!(matches!(Sealer::load(Some("short"), directory.path()), Err(KeyError::Form)));
        fs::write(&path, "x").unwrap();
        assert!(matches!(Sealer::load(None, directory.path()), Err(KeyError::Damaged)));
        assert!(matches!(Sealer::load(None, &path), Err(KeyError::File(_))));
    }
}
