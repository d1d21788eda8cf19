//! uuid: 32 hexadecimal digits in any case, a hyphen allowed behind every fourth, braces allowed around.

use super::ValueError;

/// Reads what PostgreSQL's `uuid_in` reads.
pub fn parse(text: &[u8]) -> Result<[u8; 16], ValueError> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut id = [0; 16];
    for (index, byte) in id.iter_mut().enumerate() {
        let [high, low, behind @ ..] = rest else {
            return Err(ValueError::Type);
        };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
        rest = match behind {
            [b'-', behind @ ..] if index % 2 == 1 && index < 15 => behind,
            _ => behind,
        };
    }
    if rest.is_empty() { Ok(id) } else { Err(ValueError::Type) }
}

fn nibble(digit: u8) -> Result<u8, ValueError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ValueError::Type),
    }
}

pub(super) fn write_json(id: [u8; 16], out: &mut Vec<u8>) {
    let mut text = [0; 36];
    out.push(b'"');
    out.extend_from_slice(
        uuid::Uuid::from_bytes(id).as_hyphenated().encode_lower(&mut text).as_bytes(),
    );
    out.push(b'"');
}
