//! The shared vectors: made by an implementation that knows PROTOCOL.md and has never seen this crate.
//!
//! Every `tests/vectors/*.json` is checked, and the file that `TOWER_SEAL_VECTORS` names, if it names one. The
//! data leads: nothing here knows a name or a value of a vector, and what a file holds beyond what is checked
//! here is named on stderr. Every failure names file, vector and field.

mod batches;
mod handshakes;
mod negatives;
mod records;
mod rejections;
mod sides;

use std::{convert::Infallible, env, fmt::Display, fs, io::Write as _, path::Path, path::PathBuf};

use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;

use crate::{
    config::{Backend, Encoding},
    error::Error,
};

const ENCODINGS: [Encoding; 2] = [Encoding::Binary, Encoding::Json];

#[test]
fn handshakes_are_reproduced() {
    each_of("handshakes", handshakes::check);
}

#[test]
fn batches_are_opened() {
    each_of("batches", batches::check);
}

#[test]
fn batches_of_several_sessions_are_opened() {
    each_of("batch_of_two_sessions", batches::check_sessions);
}

#[test]
fn rejections_are_signed() {
    each_of("rejections", rejections::check);
}

#[test]
fn negatives_are_refused() {
    each_of("negatives", negatives::check);
}

#[test]
fn files_hold_nothing_else() {
    for (name, file) in files() {
        let file = At { backend: Backend::default(), path: name, value: &file };
        assert_eq!(file.at("protocol").text(), "tower-seal/1", "{}", file.path);
        file.knows(&[
            "protocol",
            "note",
            "handshakes",
            "batches",
            "batch_of_two_sessions",
            "rejections",
            "negatives",
        ]);
    }
}

fn each_of(section: &str, check: impl Fn(&At<'_>)) {
    let mut checked = 0;
    for (name, file) in files() {
        for &backend in Backend::ALL {
            let file = At { backend, path: format!("{backend:?}, {name}"), value: &file };
            let vectors = file.at(section).list();
            vectors.iter().for_each(&check);
            checked += vectors.len();
        }
    }
    assert!(checked > 0, "no file has any {section}");
}

fn files() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let listing = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = listing
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no vectors in {}", folder.display());
    paths.extend(env::var_os("TOWER_SEAL_VECTORS").filter(|path| !path.is_empty()).map(PathBuf::from));
    let read = |path: PathBuf| {
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let name = path.file_name().map_or(name, |name| name.to_string_lossy().into_owned());
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, value)
    };
    paths.into_iter().map(read).collect()
}

/// A place in a file, which every failure names, and the backend that is being compared.
struct At<'a> {
    backend: Backend,
    path: String,
    value: &'a Value,
}

impl<'a> At<'a> {
    /// The field of this name, which may be absent.
    fn at(&self, field: &str) -> At<'a> {
        self.with(format!("{}: {field}", self.path), &self.value[field])
    }

    /// The elements of an array; of anything else, itself; nothing where there is nothing.
    fn list(&self) -> Vec<At<'a>> {
        let Value::Array(items) = self.value else {
            return if self.value.is_null() { Vec::new() } else { vec![self.again()] };
        };
        let element = |(i, value): (usize, &'a Value)| {
            let name = value["name"].as_str().map(|name| format!(" {name:?}")).unwrap_or_default();
            self.with(format!("{}[{i}]{name}", self.path), value)
        };
        items.iter().enumerate().map(element).collect()
    }

    fn again(&self) -> At<'a> {
        self.with(self.path.clone(), self.value)
    }

    fn with<'b>(&self, path: String, value: &'b Value) -> At<'b> {
        At { backend: self.backend, path, value }
    }

    /// Itself, unless it is left out, null, or an empty string.
    fn given(&self) -> Option<At<'a>> {
        (!self.value.is_null() && self.value != "").then(|| self.again())
    }

    fn names(&self) -> Vec<&'a str> {
        self.value.as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str)).collect()
    }

    #[track_caller]
    fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_else(|| self.fail("should be a string"))
    }

    #[track_caller]
    fn number(&self) -> u64 {
        self.value.as_u64().unwrap_or_else(|| self.fail("should be a number"))
    }

    #[track_caller]
    fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or_else(|| self.fail("should be true or false"))
    }

    #[track_caller]
    fn hex(&self) -> Vec<u8> {
        const_hex::decode(self.text()).unwrap_or_else(|error| self.fail(error))
    }

    #[track_caller]
    fn bytes<const N: usize>(&self) -> [u8; N] {
        self.hex().try_into().unwrap_or_else(|_| self.fail(format_args!("should be {N} bytes")))
    }

    /// A JSON message, which stands in the file as an object, or as text where every byte counts.
    fn message(&self) -> String {
        self.value.as_str().map_or_else(|| self.value.to_string(), Into::into)
    }

    /// Panics unless `ours` are the bytes that stand here in hex.
    #[track_caller]
    fn is(&self, ours: &[u8]) {
        if self.value.is_null() {
            return self.note("is missing, and was not compared");
        }
        if self.hex() != ours {
            self.fail(format_args!("is {}\n     and ours {}", self.text(), const_hex::encode(ours)));
        }
    }

    /// Panics unless `fields` are the same in the message that stands here and in `ours`.
    #[track_caller]
    fn has_fields_of(&self, ours: &[u8], fields: &[&str]) {
        let [theirs, ours]: [Value; 2] =
            [self.ok(serde_json::from_str(&self.message())), self.ok(serde_json::from_slice(ours))];
        let empty = Value::Object(serde_json::Map::new());
        for &field in fields {
            let [theirs, ours] = [&theirs[field], &ours[field]]
                .map(|value| if field == "extensions" && value.is_null() { &empty } else { value });
            if theirs != ours {
                self.at(field).fail(format_args!("is {theirs}\n     and ours {ours}"));
            }
        }
    }

    #[track_caller]
    fn ok<T, E: Display>(&self, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| self.fail(error))
    }

    /// Panics unless `result` is an error with the code that stands here as `code`.
    #[track_caller]
    fn is_refused<T>(&self, way: &str, result: Result<T, Error>) {
        let code = self.at("code").text();
        match result {
            Ok(_) => self.fail(format_args!("({way}) should be refused as {code}, and was taken")),
            Err(error) if error.code().is_some_and(|ours| ours.as_str() == code) => {}
            Err(error) => {
                self.fail(format_args!("({way}) should be refused as {code}, and was as {error:?}"))
            }
        }
    }

    /// Names what stands here and is not checked.
    fn knows(&self, fields: &[&str]) {
        for name in self.names().into_iter().filter(|name| !fields.contains(name)) {
            self.at(name).note("is not known here, and was not checked");
        }
    }

    /// Past the test harness, which keeps to itself what a test that passes prints.
    fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "vectors: {}: {text}", self.path);
    }

    #[track_caller]
    fn fail(&self, why: impl Display) -> ! {
        panic!("{}: {why}", self.path)
    }
}

/// Randomness that is written down: what a vector gives, and not a byte more.
struct Script(Vec<u8>);

impl Script {
    fn new(parts: &[&[u8]]) -> Self {
        Script(parts.concat())
    }

    /// Panics if some of it has not been taken.
    #[track_caller]
    fn spent(self) {
        assert!(self.0.is_empty(), "{} bytes of randomness were not taken", self.0.len());
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        assert!(out.len() <= self.0.len(), "more randomness was taken than the vector gives");
        self.0.drain(..out.len()).zip(out).for_each(|(byte, out)| *out = byte);
        Ok(())
    }
}

impl TryCryptoRng for Script {}
