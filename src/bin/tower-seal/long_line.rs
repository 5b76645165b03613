//! Of a JSON-RPC message that is too long to be kept, what has to be known to answer it.

use serde_json::value::RawValue;

/// Bytes that are kept of either end. Ids stand near one of them.
const KEPT: usize = 1024;

/// The ends of a line.
#[derive(Debug, Default)]
pub(crate) struct LongLine {
    head: Vec<u8>,
    tail: Vec<u8>,
    length: usize,
}

impl LongLine {
    /// The next part of it.
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.length = self.length.saturating_add(part.len());
        let missing = KEPT.saturating_sub(self.head.len()).min(part.len());
        self.head.extend_from_slice(&part[..missing]);
        self.tail.extend_from_slice(&part[part.len().saturating_sub(KEPT)..]);
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The JSON of a member of the object that the line is, if that stands near one of its ends.
    ///
    /// Around it there has to be nothing but whole members, so that it is none of an object within.
    pub(crate) fn member(&self, name: &str) -> Option<String> {
        let head = str::from_utf8(valid(&self.head)).ok()?;
        let key = format!("\"{name}\"");
        let near_head = positions(head, &key).find_map(|at| {
            let (value, end) = value(head, at + key.len())?;
            let object = format!("{}}}", &head[..end]);
            serde_json::from_str::<Object>(&object).is_ok().then_some(value)
        });
        let start = self.tail.iter().position(|byte| !matches!(byte, 0x80..=0xbf))?;
        let tail = str::from_utf8(&self.tail[start..]).ok()?;
        let near_tail = || {
            positions(tail, &key).find_map(|at| {
                let (value, _) = value(tail, at + key.len())?;
                let object = format!("{{{}", &tail[at..]);
                serde_json::from_str::<Object>(&object).is_ok().then_some(value)
            })
        };
        near_head.or_else(near_tail)
    }

    /// Whether the object has a member that begins near its beginning, or is near its end.
    pub(crate) fn has(&self, name: &str) -> bool {
        let head = str::from_utf8(valid(&self.head)).unwrap_or_default();
        let key = format!("\"{name}\"");
        let begins = positions(head, &key).any(|at| {
            let object = format!("{}{key}:null}}", &head[..at]);
            head[at + key.len()..].trim_start().starts_with(':')
                && serde_json::from_str::<Object>(&object).is_ok()
        });
        begins || self.member(name).is_some()
    }
}

type Object = std::collections::HashMap<String, serde::de::IgnoredAny>;

fn positions<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(key).map(|(at, _)| at)
}

/// The value of a key that ends at `at`, and where it ends itself.
fn value(text: &str, at: usize) -> Option<(String, usize)> {
    let rest = text.get(at..)?;
    let after = rest.trim_start().strip_prefix(':')?;
    let mut values = serde_json::Deserializer::from_str(after).into_iter::<&RawValue>();
    let value = values.next()?.ok()?;
    let end = text.len() - after.len() + values.byte_offset();
    // A number could go on where nothing follows.
    (end < text.len()).then(|| (value.get().to_owned(), end))
}

/// Without a character that was cut off.
fn valid(bytes: &[u8]) -> &[u8] {
    match str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(begin: &str, end: &str) -> LongLine {
        let mut long = LongLine::default();
        for part in [begin, &"ä\\\"id\\\":9,".repeat(1000), end] {
            for part in part.as_bytes().chunks(700) {
                long.push(part);
            }
        }
        long
    }

    fn id(begin: &str, end: &str) -> Option<String> {
        long(begin, end).member("id")
    }

    #[test]
    fn an_id_is_found_near_either_end() {
        assert_eq!(id(r#"{"jsonrpc":"2.0", "id" : 12 ,"result":""#, "\"}").as_deref(), Some("12"));
        assert_eq!(
            id(r#"{"result":{"id":7,"x":""#, r#""},"jsonrpc":"2.0","id":"a\"b"}"#).as_deref(),
            Some(r#""a\"b""#)
        );
        assert_eq!(id(r#"{"result":""#, "\",\"id\":null} \r").as_deref(), Some("null"));
        assert_eq!(
            long(r#"{"method":"m","id":1,"params":""#, "\"}").member("method").as_deref(),
            Some("\"m\"")
        );
    }

    #[test]
    fn a_member_need_not_end_to_be_there() {
        let has = |begin, end| long(begin, end).has("result");
        assert!(has(r#"{"id":1, "result" : {"x":""#, r#""}}"#));
        assert!(has(r#"{"x":""#, r#"","result":{}}"#));
        assert!(!has(r#"{"x":{"result":""#, r#""}}"#));
        assert!(!has(r#"{"id":1,"params":["result",""#, r#""],"y":{"result":1}}"#));
    }

    #[test]
    fn and_nowhere_else() {
        for (begin, end) in [
            (r#"{"result":{"id":7,"x":""#, r#""}}"#),
            (r#"{"result":{"x":""#, r#"","id":7}}"#),
            (r#"[{"id":7,"result":""#, r#""}]"#),
            (r#"{"result":"id","x":""#, r#""}"#),
            (r#"{"result":"\"id\":7","x":""#, r#","id":7}"}"#),
            ("", ""),
        ] {
            assert_eq!(id(begin, end), None, "{begin} {end}");
        }
        let mut cut = LongLine::default();
        cut.push(format!("{{{}\"id\":{}", " ".repeat(KEPT - 8), "1".repeat(2000)).as_bytes());
        assert_eq!(cut.member("id"), None);
    }
}
