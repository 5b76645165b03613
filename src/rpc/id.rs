//! Ids of requests, which answers repeat.

use std::{borrow::Cow, sync::Arc};

use super::shape::Text;

/// An id as the JSON value that it is: `1` and `1.0` are one id, `1` and `"1"` are two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Integer(i128),
    /// The bits of one that is no integer, or larger than any.
    Float(u64),
    Text(Arc<str>),
}

impl Id {
    /// `None` for null and whatever else cannot tell calls apart.
    pub(super) fn of(json: &str) -> Option<Self> {
        if json.starts_with('"') {
            let text: Cow<'_, str> = serde_json::from_str::<Text<'_>>(json).ok()?.0;
            return Some(Id::Text(text.into()));
        }
        if let Ok(integer) = json.parse::<i128>() {
            return Some(Id::Integer(integer));
        }
        if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        let float: f64 = json.parse().ok().filter(|float: &f64| float.is_finite())?;
        // 2^127 and its negation are exact, and below them the conversion is, for what has no fraction.
        if float.fract() == 0.0 && float.abs() < 2_f64.powi(127) {
            return Some(Id::Integer(float as i128));
        }
        Some(Id::Float(float.to_bits()))
    }
}
