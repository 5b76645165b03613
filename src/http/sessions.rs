//! The initiator's sessions: one for each origin and node expected there.

use std::sync::{Mutex, PoisonError};

use ::http::Uri;
use lru::LruCache;

use crate::{config::Config, identity::NodeId, kept::Kept};

/// Origins for which sessions are kept; the least recently used goes first.
const MOST_ORIGINS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1024).unwrap();

/// Where a session belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// `scheme://authority`, in lower case.
    pub(super) origin: String,
    pub(super) audience: Option<NodeId>,
}

pub(super) struct Sessions {
    places: Mutex<LruCache<Place, Kept>>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Sessions { places: Mutex::new(LruCache::new(MOST_ORIGINS)) }
    }

    /// What is kept for a place, perhaps nothing yet.
    pub(super) fn at(&self, place: &Place) -> Kept {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = places.get(place) {
            return kept.clone();
        }
        // Made when nobody was expected there yet, and since then its node has been learned.
        let before = Place { origin: place.origin.clone(), audience: None };
        let is_with = |kept: &Kept| place.audience.is_some() && kept.peer() == place.audience;
        let learned = places.peek(&before).is_some_and(is_with).then(|| places.pop(&before)).flatten();
        let kept = learned.unwrap_or_default();
        places.put(place.clone(), kept.clone());
        kept
    }
}

impl Place {
    pub(super) fn new(config: &Config, scheme: &str, authority: &str) -> Self {
        let mut origin = String::with_capacity(scheme.len() + 3 + authority.len());
        origin.extend([scheme, "://", authority]);
        origin.make_ascii_lowercase();
        Place { audience: config.trust().expects(Some(&origin)), origin }
    }
}

/// The outer URI: that of the request, without its query.
pub(super) fn without_query(uri: &Uri) -> Uri {
    if uri.query().is_none() && !uri.path().is_empty() {
        return uri.clone();
    }
    let mut parts = uri.clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.path());
    // A path that was valid with a query is so without.
    parts.path_and_query = Some(path.parse().unwrap_or(::http::uri::PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}
