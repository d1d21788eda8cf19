//! Where chance comes from: one number, printed, that can be given again.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The variable that gives a run the seed of an earlier one.
const VARIABLE: &str = "TIDEGATE_TEST_SEED";

/// What everything random of a test is drawn from. It fixes what is sent and which faults come in which order; which
/// of two things that happen at once comes first is still up to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// As the environment says, else a new one; printed, so that a failure can be repeated.
    pub fn draw() -> Seed {
        let seed = match std::env::var(VARIABLE) {
            Ok(text) => Seed(text.parse().expect("TIDEGATE_TEST_SEED is a whole number")),
            Err(_) => Seed(rand::random()),
        };
        eprintln!("{VARIABLE}={seed}");
        seed
    }

    /// Numbers for one purpose; another purpose gets others.
    pub fn numbers(self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.0 ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
