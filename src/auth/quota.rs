//! Quotas: how many records a second a token may send, over time.
//!
//! A token with a rate has a bucket, which holds one second's worth of records and fills at that rate. A request is
//! admitted when one record is in it, and pays for what was taken of it, into debt if need be. So a refusal comes before
//! the body is read and nothing is half taken, a body larger than the bucket is possible, and over time no more gets
//! in than the rate allows. A sender that is refused is told when the bucket has a record again.
//!
//! Invalid records that are kept in the quarantine are paid for like others. They have a bucket of their own beside it,
//! of [`INVALID_SECONDS`] worth of records: what it does not cover is not kept, so that one request cannot bring in any
//! number of them, and the good records of a large body leave it as it is. It is asked before a record is kept.
//!
//! Kept in memory, by gateway: a restart forgets debts, and each of several gateways counts for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Highest rate that can be asked for, in records a second.
pub const RECORDS_PER_SECOND_MAX: u32 = 1_000_000_000;
/// Invalid records that may be kept at once, in seconds of the rate.
pub const INVALID_SECONDS: u32 = 60;
/// Buckets that are full again are forgotten when there are more than this, and twice as many as the last time.
const BUCKETS_BEFORE_CLEARING: usize = 64;

/// The buckets of all tokens that have a rate; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Quotas(Arc<Mutex<Buckets>>);

/// A request that was admitted; dropped without having paid, it gives back what it held.
#[derive(Debug)]
pub struct Admission {
    quotas: Quotas,
    token_id: i64,
    /// The record that it was admitted with stands for the first that it takes.
    prepaid: bool,
}

/// Pays for a request's invalid records before they are kept; dropped, it gives back what was not sent.
#[derive(Debug)]
pub struct InvalidRecords {
    quotas: Quotas,
    token_id: i64,
    /// Paid for, and not on their way yet.
    unsent: u32,
}

/// The token has sent more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this token may send {records_per_second} records a second, and has sent more")]
pub struct OverQuota {
    pub records_per_second: u32,
    pub retry_after: Duration,
}

#[derive(Debug, Default)]
struct Buckets {
    by_token: HashMap<i64, Bucket>,
    after_clearing: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Records; below 0 it is debt.
    level: f64,
    /// Invalid records that may still be kept.
    invalid: f64,
    records_per_second: u32,
    at: Instant,
    /// Admissions that may still pay into it.
    out: usize,
}

impl Quotas {
    /// Lets a request of a token in, or says when to come again.
    pub fn admit(
        &self,
        token_id: i64,
        records_per_second: u32,
        now: Instant,
    ) -> Result<Admission, OverQuota> {
        let mut buckets = self.lock();
        buckets.clear_full(now);
        let rate = records_per_second.max(1);
        let bucket = buckets.by_token.entry(token_id).or_insert_with(|| Bucket::full(rate, now));
        bucket.records_per_second = rate;
        bucket.fill(now);
        if bucket.level < 1.0 {
            return Err(OverQuota { records_per_second: rate, retry_after: bucket.until_one() });
        }
        bucket.level -= 1.0;
        bucket.out += 1;
        Ok(Admission { quotas: self.clone(), token_id, prepaid: true })
    }

    fn add(&self, token_id: i64, records: f64) {
        if let Some(bucket) = self.lock().by_token.get_mut(&token_id) {
            bucket.level += records;
        }
    }

    fn add_invalid(&self, token_id: i64, records: f64) {
        if let Some(bucket) = self.lock().by_token.get_mut(&token_id) {
            bucket.invalid += records;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Pays for records that were taken.
    pub fn pay(&mut self, records: u32) {
        let prepaid = self.prepaid && records > 0;
        self.prepaid &= !prepaid;
        self.quotas.add(self.token_id, f64::from(u8::from(prepaid)) - f64::from(records));
    }

    /// Gives back what was paid for records that were not taken after all; `invalid` of them are invalid.
    pub fn give_back(&mut self, records: u32, invalid: u32) {
        self.quotas.add(self.token_id, f64::from(records));
        // A record that was not taken may be kept another time.
        self.quotas.add_invalid(self.token_id, f64::from(invalid));
    }

    /// What the request's invalid records are paid with. It must not outlive the admission.
    pub fn invalid_records(&self) -> InvalidRecords {
        InvalidRecords { quotas: self.quotas.clone(), token_id: self.token_id, unsent: 0 }
    }
}

impl InvalidRecords {
    /// The same for another stream of the request.
    #[must_use]
    pub fn another(&self) -> InvalidRecords {
        InvalidRecords { quotas: self.quotas.clone(), token_id: self.token_id, unsent: 0 }
    }

    /// Pays for one record; false if the rate does not cover it.
    pub fn take(&mut self) -> bool {
        let mut buckets = self.quotas.lock();
        let bucket = buckets.by_token.get_mut(&self.token_id);
        let Some(bucket) = bucket.filter(|bucket| bucket.invalid >= 1.0) else { return false };
        bucket.invalid -= 1.0;
        self.unsent += 1;
        true
    }

    /// Gives one back that was not kept after all.
    pub fn give_back(&mut self) {
        self.unsent -= 1;
        self.quotas.add_invalid(self.token_id, 1.0);
    }

    /// Splits off what was paid for so far: dropped, that gives it back, unless it was [`InvalidRecords::sent`].
    pub fn split(&mut self) -> Option<InvalidRecords> {
        let mut split = self.another();
        std::mem::swap(&mut split.unsent, &mut self.unsent);
        (split.unsent > 0).then_some(split)
    }

    /// Everything that was paid for is on its way.
    pub fn sent(mut self) {
        self.unsent = 0;
    }
}

impl Drop for InvalidRecords {
    fn drop(&mut self) {
        if self.unsent > 0 {
            self.quotas.add_invalid(self.token_id, f64::from(self.unsent));
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(bucket) = self.quotas.lock().by_token.get_mut(&self.token_id) {
            bucket.level += f64::from(u8::from(self.prepaid));
            bucket.out -= 1;
        }
    }
}

impl Buckets {
    /// What is full says nothing, a new bucket is the same, unless a request is still to pay.
    fn clear_full(&mut self, now: Instant) {
        let many = (self.after_clearing * 2).max(BUCKETS_BEFORE_CLEARING);
        if self.by_token.len() < many {
            return;
        }
        self.by_token.retain(|_, bucket| {
            bucket.fill(now);
            bucket.out > 0 || !bucket.is_full()
        });
        self.after_clearing = self.by_token.len();
    }
}

impl Bucket {
    fn full(records_per_second: u32, now: Instant) -> Bucket {
        let level = f64::from(records_per_second);
        let invalid = level * f64::from(INVALID_SECONDS);
        Bucket { level, invalid, records_per_second, at: now, out: 0 }
    }

    fn is_full(&self) -> bool {
        let full = Bucket::full(self.records_per_second, self.at);
        self.level >= full.level && self.invalid >= full.invalid
    }

    fn fill(&mut self, now: Instant) {
        let full = Bucket::full(self.records_per_second, now);
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let more = elapsed * full.level;
        self.level = (self.level + more).min(full.level);
        self.invalid = (self.invalid + more).min(full.invalid);
        self.at = self.at.max(now);
    }

    fn until_one(&self) -> Duration {
        let seconds = (1.0 - self.level) / f64::from(self.records_per_second);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bucket_at_once_and_then_the_rate() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        for _ in 0..10 {
            quotas.admit(1, 10, start).unwrap().pay(1);
        }
        let refused = quotas.admit(1, 10, start).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        quotas.admit(1, 10, start + refused.retry_after).unwrap().pay(1);
        assert!(quotas.admit(1, 10, start + refused.retry_after).is_err());
        assert!(quotas.admit(2, 10, start).is_ok(), "another token");
        let much_later = start + Duration::from_secs(1_000);
        quotas.admit(1, 10, much_later).unwrap().pay(10);
        assert!(quotas.admit(1, 10, much_later).is_err(), "silence is not saved up");
    }

    #[test]
    fn a_large_body_is_taken_and_paid_for() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let mut large = quotas.admit(1, 10, start).unwrap();
        large.pay(600);
        large.pay(410);
        drop(large);
        let refused = quotas.admit(1, 10, start).unwrap_err();
        // 1,000 in debt, and one to begin with.
        assert_eq!(refused.retry_after, Duration::from_millis(100_100));
        let early = start + Duration::from_millis(100_099);
        assert!(quotas.admit(1, 10, early).is_err());
        assert!(quotas.admit(1, 10, start + refused.retry_after).is_ok());
    }

    #[test]
    fn what_is_not_taken_is_not_paid_for() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let held = quotas.admit(1, 1, start).unwrap();
        assert!(
            quotas.admit(1, 1, start).is_err(),
            "two at once cannot be admitted with one record"
        );
        drop(held);
        let mut failed = quotas.admit(1, 1, start).unwrap();
        failed.pay(0);
        failed.pay(7);
        failed.give_back(7, 0);
        drop(failed);
        assert!(quotas.admit(1, 1, start).is_ok());
    }

    #[test]
    fn invalid_records_are_kept_as_far_as_the_rate_covers_them() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let kept = |invalid: &mut InvalidRecords| (0..1_000).filter(|_| invalid.take()).count();
        let mut large = quotas.admit(1, 10, start).unwrap();
        large.pay(1_000_000);
        let mut invalid = large.invalid_records();
        assert_eq!(kept(&mut invalid), 600, "good records leave it as it is");
        drop(invalid);
        let mut invalid = large.invalid_records();
        assert_eq!(kept(&mut invalid), 600, "what was not sent is given back");
        drop(invalid.split());
        assert_eq!(kept(&mut invalid), 600, "what was not sent after all is given back");
        invalid.split().expect("it paid for 600").sent();
        assert!(invalid.split().is_none());
        drop(invalid);
        assert_eq!(kept(&mut large.invalid_records()), 0, "of all requests of the token together");
        let mut other = quotas.admit(2, 10, start).unwrap();
        assert_eq!(kept(&mut other.invalid_records()), 600);
        other.give_back(0, 0);
        large.give_back(0, 5);
        assert_eq!(kept(&mut large.invalid_records()), 5);
        // In debt it is not admitted; but what is under way may keep what came meanwhile.
        assert!(quotas.admit(1, 10, start + Duration::from_secs(2)).is_err());
        assert_eq!(kept(&mut large.invalid_records()), 25);
    }

    #[test]
    fn buckets_are_not_kept_for_ever() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        for token_id in 0..10_000 {
            let second = u32::try_from(token_id).unwrap();
            quotas.admit(token_id, 5, start + Duration::from_secs(1) * second).unwrap().pay(1);
        }
        assert!(quotas.lock().by_token.len() <= BUCKETS_BEFORE_CLEARING);
    }

    #[test]
    fn a_bucket_is_kept_for_who_is_still_to_pay() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let mut slow = quotas.admit(0, 10, start).unwrap();
        let later = start + Duration::from_secs(10);
        for token_id in 1..=200 {
            drop(quotas.admit(token_id, 10, later));
        }
        assert!(quotas.lock().by_token.len() <= BUCKETS_BEFORE_CLEARING, "some were cleared");
        slow.pay(1_000);
        assert!(quotas.admit(0, 10, later).is_err(), "it is in debt");
    }

    proptest! {
        /// A sender that does as told is never refused twice, and over time gets the rate, and no more.
        #[test]
        fn over_time_the_rate_holds(
            rate in 1_u32..1_000,
            bodies in prop::collection::vec((1_u32..5_000, 0_u64..3_000), 1..50),
        ) {
            let (quotas, start) = (Quotas::default(), Instant::now());
            let (mut now, mut taken) = (start, 0.0);
            for (records, pause_ms) in bodies {
                if let Err(refused) = quotas.admit(1, rate, now) {
                    // Rounded up, as the answer to the client is.
                    now += Duration::from_secs(refused.retry_after.as_secs() + 1);
                }
                let before = taken;
                let mut admission = quotas.admit(1, rate, now).expect("the advice was right");
                admission.pay(records);
                taken += f64::from(records);
                let allowed = (now - start).as_secs_f64() * f64::from(rate) + f64::from(rate);
                prop_assert!(before <= allowed, "{before} of {allowed}");
                now += Duration::from_millis(pause_ms);
            }
        }
    }
}
