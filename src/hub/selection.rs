//! Which streams a monitor gets.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_codec::{Stream, StreamName, StreamsSnapshot};

/// All streams, those that are created later among them, or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selection {
    All,
    Only(Arc<BTreeSet<StreamName>>),
}

impl Selection {
    /// A list of names.
    pub fn only(names: impl IntoIterator<Item = StreamName>) -> Selection {
        Selection::Only(Arc::new(names.into_iter().collect()))
    }

    /// Whether a stream of this name is in it.
    pub fn covers(&self, name: &StreamName) -> bool {
        match self {
            Selection::All => true,
            Selection::Only(names) => names.contains(name),
        }
    }

    /// The streams in it that exist, ordered by id.
    pub(crate) fn existing(&self, streams: &StreamsSnapshot) -> Vec<Arc<Stream>> {
        let covered = streams.iter().filter(|stream| self.covers(&stream.name));
        let mut existing: Vec<_> = covered.map(Arc::clone).collect();
        existing.sort_by_key(|stream| stream.id);
        existing
    }
}

/// What all monitors of a kind watch together; a stream without a monitor is not decoded.
#[derive(Debug, Default)]
pub(super) struct Interest {
    all: bool,
    names: BTreeSet<StreamName>,
}

impl Interest {
    pub fn of<'a>(selections: impl Iterator<Item = &'a Selection>) -> Interest {
        let mut interest = Interest::default();
        for selection in selections {
            match selection {
                Selection::All => interest.all = true,
                Selection::Only(names) => interest.names.extend(names.iter().cloned()),
            }
        }
        interest
    }

    pub fn covers(&self, name: &StreamName) -> bool {
        self.all || self.names.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_is_the_union() {
        let name = |text: &str| text.parse::<StreamName>().unwrap();
        let some = [Selection::only([name("a")]), Selection::only([name("b")])];
        let interest = Interest::of(some.iter());
        assert!(interest.covers(&name("a")) && interest.covers(&name("b")));
        assert!(!interest.covers(&name("c")));
        assert!(Interest::of([Selection::All].iter()).covers(&name("c")));
        assert!(!Interest::of([].iter()).covers(&name("a")));
    }
}
