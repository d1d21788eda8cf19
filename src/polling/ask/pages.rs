//! The pages of one run, asked for one by one.
//!
//! Promises: a run gives each item once for each content that it has; nothing that was asked leaves the definition's
//! limits; an error is in words and without secrets.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::answer::{Answer, Asker, Content};
use super::budget::AnswerPermit;
use super::error::{FetchError, FetchErrorKind};
use super::items::{self, ITEM_BYTES, Item, Items};
use super::paginator::{AnsweredPage, Paginator};
use super::question::Question;
use super::resume::Resume;
use super::since_seen::SinceSeen;
use crate::outbound::{Endpoint, HostPermit, Mask, PutOff, Secrets, canonical, shown};
use crate::polling::jobs::{Definition, Method, Since};

/// Most items that a run of several pages may give.
const RUN_ITEMS_MAX: usize = 1_000_000;
/// An answer of more bytes than this is read apart from where requests are served.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// What remembering an item costs, in bytes.
const SEEN_BYTES: usize = 48;

/// See the module.
#[derive(Debug)]
pub struct Pages {
    asker: Arc<Asker>,
    owner: Option<i64>,
    definition: Arc<Definition>,
    secrets: Secrets,
    paginator: Paginator,
    at: At,
    /// The page that was asked for last, and how many there were with it.
    asked: Option<(Endpoint, u32)>,
    /// Pages that were given.
    gave: u32,
    /// What the run began with.
    began: Resume,
    /// The validators that the next run begins with.
    resume: Resume,
    since: SinceSeen,
    /// The same without the latest page.
    since_before: SinceSeen,
    outcome: Outcome,
    /// Content by key, of the items that the run gave; only where there may be several pages.
    given: HashMap<[u8; 16], [u8; 16]>,
    given_permit: AnswerPermit,
}

#[derive(Debug)]
enum At {
    Begin,
    Before(Endpoint),
    /// The page before was given, and there is no way on from it.
    Stuck(FetchError),
    End,
}

/// A page's items that this run has not given before.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Item>,
    /// How many items of the answer are not in `items`, because the run gave the same before, or a later one of the answer
    /// has the same key.
    pub duplicates: u64,
    /// Certainly the last page. Where this is false the next call may still say that there is none.
    pub last: bool,
    /// The answer's part of the memory for answers.
    _permit: AnswerPermit,
}

/// How a run ended that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Fresh,
    /// The API has nothing to say (204), at least on one page: that is no word about the items that it had before.
    Silent,
    /// The API says that nothing changed since the last run.
    NotModified,
}

/// How far a run came that did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Pages that were given.
    pub pages: u32,
    /// What the next run can go on from; none, if it is not known what the pages leave out that were not read.
    pub resume: Option<Resume>,
    /// The pages ascend by the since-field, as far as they were read.
    pub ascends: bool,
    /// It began without anything to go on from.
    pub is_first: bool,
}

impl Pages {
    /// The pages that answer a definition; nothing is asked yet.
    pub(super) fn new(
        asker: Arc<Asker>,
        owner: Option<i64>,
        definition: Arc<Definition>,
        secrets: Secrets,
        resume: Resume,
    ) -> Pages {
        let since = definition.since.as_ref();
        let written = |(since, value): (&Since, _)| since.written(value, resume.since_digits);
        let value = since.zip(resume.since).and_then(written);
        let parameter = since.zip(value.as_deref());
        let parameter = parameter.map(|(since, value)| (since.parameter.as_str(), value));
        let paginator = Paginator::new(&definition, parameter);
        let since = SinceSeen {
            highest: resume.since,
            digits: resume.since_digits,
            ..SinceSeen::default()
        };
        Pages {
            secrets,
            paginator,
            at: At::Begin,
            asked: None,
            gave: 0,
            resume: Resume::default(),
            since,
            since_before: since,
            began: resume,
            outcome: Outcome::Fresh,
            given: HashMap::new(),
            given_permit: asker.budget.permit(owner),
            asker,
            owner,
            definition,
        }
    }

    /// The next page; `None` after the last one. After an error there is nothing more. A call that is dropped half way ends
    /// the run.
    pub async fn next(&mut self) -> Result<Option<Page>, FetchError> {
        let page = self.ask().await.map_err(|error| self.placed(error))?;
        self.gave += u32::from(page.is_some());
        Ok(page)
    }

    async fn ask(&mut self) -> Result<Option<Page>, FetchError> {
        let (url, permit) = match mem::replace(&mut self.at, At::End) {
            At::End => return Ok(None),
            At::Stuck(error) => return Err(error),
            At::Begin => {
                let url = self.paginator.first()?;
                self.asked = Some((url.clone(), 1));
                let permit = self.first_permit(&url).await?;
                (url, permit)
            }
            At::Before(url) => {
                self.asked = Some((url.clone(), self.gave + 1));
                let permit = self.asker.hosts.permit(&url.host()).await;
                (url, permit)
            }
        };
        let request = request_name(&self.definition, &url);
        let known = self.is_conditional() && self.began.answered.as_deref() == Some(&request);
        let question = Question {
            definition: &self.definition,
            secrets: &self.secrets,
            owner: self.owner,
            known: known.then_some(&self.began),
            beside: &self.given_permit,
            url,
        };
        // On the heap, because all of HTTP is in it.
        match Box::pin(self.asker.ask(&question, permit)).await? {
            Answer::NotModified => {
                self.outcome = Outcome::NotModified;
                self.resume = self.began.clone();
                self.since.highest = self.began.since;
                Ok(None)
            }
            Answer::Content(content) => self.take(*content, request).await.map(Some),
        }
    }

    /// After the last page: how it ended, and what the next run goes on from. It must not be kept before all items of this
    /// run are, and not at all where the run failed.
    pub fn finish(self) -> (Outcome, Resume) {
        let SinceSeen { highest, digits, .. } = self.since;
        (self.outcome, Resume { since: highest, since_digits: digits, ..self.resume })
    }

    /// The items of the latest page were not taken, or not all: it does not count as read, and the run is over.
    pub fn take_back(&mut self) {
        self.since = self.since_before;
        self.gave = self.gave.saturating_sub(1);
    }

    /// After an error: how far it came. What it has to go on from must not be kept before all items of this run are.
    pub fn reached(&self) -> Reached {
        let SinceSeen { digits, ascent, .. } = self.since;
        let asks_otherwise = |value| {
            let since = self.definition.since.as_ref()?;
            let before = self.began.since.and_then(|before| since.written(before, digits));
            let is_more = self.began.since.is_none_or(|before| before < value);
            (is_more && since.written(value, digits) != before).then_some(value)
        };
        let value = ascent.read_up_to().and_then(asks_otherwise);
        let resume =
            |value| Resume { since: Some(value), since_digits: digits, ..Resume::default() };
        Reached {
            pages: self.gave,
            resume: value.map(resume),
            ascends: ascent.holds(),
            is_first: self.began.since.is_none(),
        }
    }

    /// The error with its place, and without secrets that an API repeated.
    fn placed(&self, mut error: FetchError) -> FetchError {
        let mask = Mask::of(&self.secrets, self.definition.url.url());
        let message = mask.hide(&error.message, false);
        let sent = self.refused_since(error.kind);
        error.message = match &self.asked {
            None => message + &sent,
            Some((url, _)) if self.definition.pagination.is_none() => {
                format!("{}: {message}{sent}", shown::address(url))
            }
            Some((url, page)) => format!("page {page}, {}: {message}{sent}", shown::address(url)),
        };
        error
    }

    /// What the API may not have liked, if it says that the first question is no question.
    fn refused_since(&self, kind: FetchErrorKind) -> String {
        let is_first = self.gave == 0 && matches!(kind, FetchErrorKind::Status(400 | 422));
        let since = self.definition.since.as_ref().filter(|_| is_first);
        let sent = since.zip(self.began.since).and_then(|(since, value)| {
            let sent = since.written(value, self.began.since_digits)?;
            Some(format!("{}={sent}", since.parameter))
        });
        let words = |sent| format!("; it was asked with {sent}, and `since` has other formats");
        sent.map(words).unwrap_or_default()
    }

    async fn first_permit(&self, url: &Endpoint) -> Result<HostPermit, FetchError> {
        self.asker.hosts.first_permit(&url.host()).await.map_err(|PutOff(wait)| {
            let message = format!("{} has as many requests as it may have", url.host());
            let busy = FetchError::new(FetchErrorKind::Busy, message);
            FetchError { retry_after: Some(wait), ..busy }
        })
    }

    fn is_conditional(&self) -> bool {
        let Definition { conditional, method, pagination, .. } = &*self.definition;
        *conditional && *method == Method::Get && pagination.is_none()
    }

    async fn take(&mut self, content: Content, request: String) -> Result<Page, FetchError> {
        let Content { url, body, etag, last_modified, links, permit } = content;
        let read = match &body {
            Some(body) => self.read(body, permit).await?,
            None => {
                self.outcome = Outcome::Silent;
                Read { items: Items::default(), since: self.since, permit }
            }
        };
        let permit = read.permit;
        let has_validator = etag.is_some() || last_modified.is_some();
        if body.is_some() && self.is_conditional() && has_validator {
            self.resume =
                Resume { etag, last_modified, answered: Some(request), ..Resume::default() };
        }
        let Items { items, count } = read.items;
        let items = self.not_given_before(items, &permit).await?;
        let duplicates = (count - items.len()) as u64;
        let page =
            AnsweredPage { url: &url, links: &links, body: body.as_ref(), count, new: items.len() };
        self.at = match self.paginator.next(&page) {
            Ok(Some(next)) => At::Before(next),
            Ok(None) => At::End,
            // What this page has is worth keeping.
            Err(error) => At::Stuck(error),
        };
        let last = matches!(self.at, At::End);
        // No wait follows from here on: what counts as read is given.
        self.since_before = mem::replace(&mut self.since, read.since);
        Ok(Page { items, duplicates, last, _permit: permit })
    }

    /// Finds the items, and the highest value of the since-field. The memory for what is made of an answer is held before,
    /// and as long as the work goes on, even where the run does not wait for it any more.
    async fn read(&self, body: &Bytes, permit: AnswerPermit) -> Result<Read, FetchError> {
        let (definition, answer) = (Arc::clone(&self.definition), body.clone());
        let find = move || Ok((items::find(&answer, &definition.items)?, permit));
        let (found, mut permit) = apart(body.len(), find).await?;
        permit.grow_to(body.len() + found.count * ITEM_BYTES).await?;
        let definition = Arc::clone(&self.definition);
        let (before, now) = (self.since, self.asker.clock.now());
        let make = move || {
            let items = found.read(&definition.key)?;
            let since = definition.since.as_ref();
            let since = since.map_or(before, |since| before.with_page(since, &items.items, now));
            Ok(Read { items, since, permit })
        };
        apart(body.len(), make).await
    }

    async fn not_given_before(
        &mut self,
        items: Vec<Item>,
        permit: &AnswerPermit,
    ) -> Result<Vec<Item>, FetchError> {
        if self.definition.pagination.is_none() {
            return Ok(items);
        }
        if self.given.len() + items.len() > RUN_ITEMS_MAX {
            let message = format!("the pages have more than {RUN_ITEMS_MAX} items");
            return Err(FetchError::new(FetchErrorKind::TooLarge, message));
        }
        self.given_permit.goes_beside(permit);
        self.given_permit.grow_to((self.given.len() + items.len()) * SEEN_BYTES).await?;
        let given = &mut self.given;
        let is_new = |item: &Item| given.insert(item.key, item.content) != Some(item.content);
        Ok(items.into_iter().filter(is_new).collect())
    }
}

#[derive(Debug)]
struct Read {
    items: Items,
    since: SinceSeen,
    permit: AnswerPermit,
}

/// Work on an answer of so many bytes; of a large one apart from where requests are served.
async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("reading an answer does not panic")
}

/// What tells a request from others: validators hold for the same request only.
fn request_name(definition: &Definition, url: &Endpoint) -> String {
    let text = format!("{url}\n{}", serde_json::to_string(definition).unwrap_or_default());
    format!("{:032x}", u128::from_be_bytes(canonical::digest(text.as_bytes())))
}
