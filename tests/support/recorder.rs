//! A subscriber for every level, target and field, that looks for secrets in whatever is said; in errors and in the
//! messages of panics too.
//!
//! Tests that make a secret [register](secret) it. Whoever finds one aborts the process, since a panic could be
//! swallowed by the task that it happens in.

// No binary uses all of it.
#![allow(dead_code, clippy::expect_used)]

use std::{
    cell::RefCell,
    collections::HashMap,
    error::Error,
    fmt::{Debug, Write as _},
    io::Write as _,
    sync::{Once, PoisonError, RwLock},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry,
    registry::LookupSpan,
};

/// How much of a secret, in one of its forms, is a find.
const PART: usize = 16;

/// Parts of secrets, with the names of these.
struct Secrets {
    parts: Option<HashMap<[u8; PART], &'static str>>,
    /// Whether a part has this [digest], so that most of a text needs no closer look.
    digests: [bool; 1 << 20],
}

static SECRETS: RwLock<Secrets> = RwLock::new(Secrets { parts: None, digests: [false; 1 << 20] });

thread_local! {
    static KEPT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on, nobody may say this. Of 16 bytes at least; of 32 where it is looked for in Base64.
pub(crate) fn secret(name: &'static str, secret: &[u8]) {
    install();
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    for form in forms(secret) {
        for part in form.as_chunks::<PART>().0 {
            secrets.digests[digest(part)] = true;
            secrets.parts.get_or_insert_default().insert(*part, name);
        }
    }
}

/// The same, and returns the key.
pub(crate) fn identity(seed: [u8; 32]) -> tower_seal::Identity {
    secret("the seed of an identity", &seed);
    tower_seal::Identity::from_seed(&seed)
}

/// A new one, which nobody may say.
pub(crate) fn new_identity() -> tower_seal::Identity {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("randomness");
    identity(seed)
}

/// Of 20 bits, from the first half of a part.
fn digest(part: &[u8; PART]) -> usize {
    let (half, _) = part.split_at(8);
    let half = half.first_chunk().map_or(0, |half| u64::from_ne_bytes(*half));
    (half.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize
}

/// As text, as hex, as Base64 wherever in a whole it stands, and as a list of numbers without spaces.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = const_hex::encode(secret);
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into(), hex.into()];
    for (at, url) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
        forms.push(base64(&secret[at..], url));
    }
    // Numbers have one to three digits, so that each needs a beginning of its own.
    for part in secret.chunks(8) {
        forms.push(part.iter().map(|byte| format!("{byte},")).collect::<String>().into());
    }
    forms
}

/// Of whole groups.
fn base64(bytes: &[u8], url: bool) -> Vec<u8> {
    let digits: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').collect();
    let digit = |bits: u8| match bits & 63 {
        62 => *if url { b"-" } else { b"+" }.first().unwrap_or(&0),
        63 => *if url { b"_" } else { b"/" }.first().unwrap_or(&0),
        bits => digits[usize::from(bits)],
    };
    let groups = bytes.as_chunks::<3>().0.iter();
    groups
        .flat_map(|[a, b, c]| [digit(a >> 2), digit(a << 4 | b >> 4), digit(b << 2 | c >> 6), digit(*c)])
        .collect()
}

/// The name of a secret that `text` shows.
pub(crate) fn shown(text: &str) -> Option<&'static str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    let parts = secrets.parts.as_ref()?;
    let find = |text: &[u8]| {
        text.windows(PART).find_map(|part| {
            let seen = part.first_chunk().is_some_and(|part| secrets.digests[digest(part)]);
            seen.then(|| parts.get(part).copied()).flatten()
        })
    };
    find(text.as_bytes()).or_else(|| {
        let is_list = text
            .as_bytes()
            .windows(3)
            .any(|part| part[0].is_ascii_digit() && matches!(part[1..], [b',', b' ' | b'\n']));
        let dense = || text.split_whitespace().collect::<String>();
        is_list.then(|| find(dense().as_bytes())).flatten()
    })
}

/// Ends the process if `text` shows a secret.
#[track_caller]
pub(crate) fn look_at(text: &str) {
    if let Some(name) = shown(text) {
        // Not by a macro: the test harness would keep it to itself.
        let place = std::panic::Location::caller();
        let _ = writeln!(std::io::stderr(), "{name} is shown, found at {place}:\n{text}");
        std::process::abort();
    }
}

/// The same for all that an error says, and for its sources.
#[track_caller]
pub(crate) fn look_at_error(error: &(dyn Error + 'static)) {
    let mut next = Some(error);
    while let Some(error) = next {
        look_at(&format!("{error}\n{error:?}\n{error:#?}"));
        next = error.source();
    }
}

/// From now on, what this thread says is kept.
pub(crate) fn keep() {
    install();
    KEPT.set(Some(String::new()));
}

/// What it has said since then.
pub(crate) fn kept() -> String {
    KEPT.take().unwrap_or_default()
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(registry().with(Recorder)).expect("it is the only one");
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            look_at(&info.to_string());
            hook(info);
        }));
    });
}

struct Recorder;

impl Recorder {
    fn line(line: &str) {
        look_at(line);
        KEPT.with_borrow_mut(|kept| {
            if let Some(kept) = kept {
                kept.push_str(line);
                kept.push('\n');
            }
        });
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        span.record(&mut fields);
        Recorder::line(&format!("{} {}{{{}}}", span.metadata().target(), span.metadata().name(), fields.0));
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.metadata(span) else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        Recorder::line(&format!("{} {}{{{}}}", span.target(), span.name(), fields.0));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let event = event.metadata();
        Recorder::line(&format!("{} {} {}:{}", event.level(), event.target(), event.name(), fields.0));
    }
}

/// ` name=value`, each.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {field}={value}");
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut next = Some(value);
        while let Some(error) = next {
            let _ = write!(self.0, " {field}={error} {error:?}");
            next = error.source();
        }
    }
}
