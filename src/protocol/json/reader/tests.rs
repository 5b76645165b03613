mod properties;

use std::borrow::Cow;

use super::{MAX_DEPTH, MAX_INTEGER, MAX_NAMES, Object, Reader, Value, any_hex, fixed_hex, write_string};
use crate::error::{Code, Error, Result};

const RECORD: &str = r#"{"type":"encrypted","session":"00ff","stream":7,"nonce":"000102030405060708090a0b",
 "ciphertext":"c0ffee","path":{"index":1,"siblings":["aa","bb"]},"later":[true,{"x":-1.5e3}]}"#;

fn parse(text: &str) -> Object<'_> {
    Object::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Misbehaved { code: Code::Malformed, .. }))
}

fn refuses(text: impl AsRef<[u8]>) -> bool {
    refused(Object::parse(text.as_ref()))
}

#[test]
fn takes_good_documents() {
    for text in [
        "{}",
        " \t\r\n{ \t\r\n} \t\r\n",
        r#"{"":""}"#,
        r#"{"a":1,"b":1,"A":1,"é":1,"😀":1}"#,
        r#"{ "a" : [ 1 , [ ] , { } , [ { "a" : 1 } , { "a" : 1 } ] ] , "b" : { "a" : 1 } }"#,
        r#"{"a":[true,false,0,-0,0.0,-0.0e-0,1E5,1e+5,10.01,12345678901234567890123456789,1e400]}"#,
        r#"{"a":"\"\\\/\b\f\n\r\t\u0000\u00e9\u00E9\uFFFF\ud83d\ude00\uDBFF\uDFFF\uD800\udc00\uD7FF\ue000"}"#,
        "{\"a\":\"\u{7f}\u{80}\u{2028}\u{feff}\u{10ffff}\"}",
        RECORD,
    ] {
        parse(text);
    }
}

#[test]
fn refuses_bad_documents() {
    for text in [
        // no object, or not only one
        "",
        " ",
        "1",
        "[]",
        "\"a\"",
        "null",
        "true",
        "{",
        "}",
        "{}{}",
        "{},",
        "{} x",
        "{}\0",
        "\u{feff}{}",
        "{}\u{feff}",
        "\u{a0}{}",
        "\u{c}{}",
        "{\u{b}}",
        "{}//",
        "/**/{}",
        // objects and arrays
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{:1}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":1,}",
        "{\"a\":1,,\"b\":1}",
        "{\"a\" 1}",
        "{\"a\"::1}",
        "{\"a\":1 \"b\":1}",
        "{\"a\":1",
        "{\"a\":1]",
        "{\"a\":[}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 1]}",
        "{\"a\":[1}}",
        "{\"a\":[1",
        "{\"a\":]}",
        // literals
        "{\"a\":null}",
        "{\"a\":[null]}",
        "{\"a\":{\"b\":[{\"c\":null}]}}",
        "{\"a\":nul}",
        "{\"a\":True}",
        "{\"a\":tru}",
        "{\"a\":truee}",
        "{\"a\":falsy}",
        "{\"a\":undefined}",
        // numbers
        "{\"a\":01}",
        "{\"a\":-01}",
        "{\"a\":00}",
        "{\"a\":-}",
        "{\"a\":--1}",
        "{\"a\":+1}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":-.5}",
        "{\"a\":1.e1}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":1e+-1}",
        "{\"a\":1e1.5}",
        "{\"a\":1.2.3}",
        "{\"a\":0x10}",
        "{\"a\":1_000}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "{\"a\":- 1}",
        "{\"a\":1 2}",
        "{\"a\":\u{661}}",
        // strings
        "{\"a\":\"}",
        "{\"a",
        "{\"a\":\"\\",
        "{\"a\":\"\\\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\0\"}",
        "{\"a\":\"\u{1f}\"}",
        "{\"\n\":1}",
        r#"{"a":"\x41"}"#,
        r#"{"a":"\'"}"#,
        r#"{"a":"\0"}"#,
        r#"{"a":"\N"}"#,
        r#"{"a":"\é"}"#,
        r#"{"a":"\u"}"#,
        r#"{"a":"\u004"}"#,
        r#"{"a":"\u+041"}"#,
        r#"{"a":"\u00g1"}"#,
        r#"{"a":"\U0041"}"#,
        r#"{"a":"\u{41}"}"#,
        r#"{"a":"\u٠٠٠٠"}"#,
        // half a surrogate pair
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00"}"#,
        r#"{"a":"\ud800x"}"#,
        r#"{"a":"\ud800\n"}"#,
        r#"{"a":"\ud800\u0041"}"#,
        r#"{"a":"\ud800\ud800\udc00"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"a":"\ud83d\ude0"}"#,
        r#"{"a":"\ud83d \ude00"}"#,
        r#"{"\ud800":1}"#,
        r#"{"a":[{"\udfff":1}]}"#,
        // a name twice
        r#"{"a":1,"a":1}"#,
        r#"{"":1,"":1}"#,
        r#"{"a":1,"b":1,"c":1,"a":2}"#,
        r#"{"a":1,"\u0061":1}"#,
        r#"{"\/":1,"/":1}"#,
        r#"{"\ud83d\ude00":1,"😀":1}"#,
        r#"{"é":1,"\u00E9":1}"#,
        r#"{"x":{"a":1,"a":1}}"#,
        r#"{"x":[0,[{"y":{"a":[],"b":{},"\u0061":"a"}}]]}"#,
    ] {
        assert!(refuses(text), "{text}");
    }
}

#[test]
fn refuses_what_is_not_utf8() {
    for bytes in [
        &b"\xff"[..],
        b"{\"a\":\"\xff\"}",
        b"{\"\x80\":1}",
        b"{\"a\":\"\xc0\xaf\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\xf4\x90\x80\x80\"}",
        b"{\"a\":\"\xe2\x82\"}",
        b"\xef\xbb\xbf{}",
        b"{}\xff",
        b"\xff\xfe{\0}\0",
    ] {
        assert!(refuses(bytes), "{bytes:x?}");
    }
}

#[test]
fn hands_out_fields() -> Result<()> {
    let record = parse(RECORD);
    assert_eq!(record.required("type")?.string()?, "encrypted");
    assert_eq!(record.required("stream")?.integer()?, 7);
    assert_eq!(record.required("session")?.hex::<2>()?, [0x00, 0xff]);
    assert_eq!(any_hex(&record.required("ciphertext")?.string()?)?, [0xc0, 0xff, 0xee]);
    let path = record.required("path")?.object()?;
    assert_eq!(path.required("index")?.integer()?, 1);
    assert_eq!(path.required("siblings")?.strings(2)?, ["aa", "bb"]);
    assert!(record.optional("salt").is_none());
    assert!(refused(record.required("salt")));
    assert!(refused(path.required("siblings")?.strings(1)));
    Ok(())
}

#[test]
fn hands_out_no_other_type() {
    let object = parse(r#"{"s":"zz","i":1,"b":true,"n":-1,"o":{},"a":[1]}"#);
    for (name, value) in object.fields() {
        assert_eq!(value.string().is_ok(), name == "s");
        assert_eq!(value.integer().is_ok(), name == "i");
        assert_eq!(value.object().is_ok(), name == "o");
        assert!(refused(value.strings(9)));
        assert!(refused(value.hex::<1>()));
    }
    assert_eq!(object.fields().len(), 6);
}

#[test]
fn fields_come_in_the_order_of_their_bytes() {
    let object = parse(r#"{"b":1,"é":1,"":1,"a":1,"\u0061\u0000":1,"B":1,"aa":1,"😀":1,"\uffff":1}"#);
    let names: Vec<_> = object.fields().map(|(name, _)| name).collect();
    assert_eq!(names, ["", "B", "a", "a\0", "aa", "b", "é", "\u{ffff}", "😀"]);
    assert!(names.iter().all(|name| object.optional(name).is_some()));
}

#[test]
fn integers_are_plain_and_exact() {
    for (text, integer) in [
        ("0", Some(0)),
        ("1", Some(1)),
        ("9007199254740991", Some(MAX_INTEGER)),
        ("9007199254740992", None),
        ("18446744073709551615", None),
        ("18446744073709551616", None),
        ("99999999999999999999999999999999999999999999", None),
        ("-0", None),
        ("-1", None),
        ("1.0", None),
        ("0.0", None),
        ("1e0", None),
        ("1E2", None),
        ("0e0", None),
        ("true", None),
        ("\"1\"", None),
    ] {
        let document = format!("{{\"a\":{text}}}");
        assert_eq!(parse(&document).required("a").and_then(Value::integer).ok(), integer, "{text}");
    }
}

#[test]
fn strings_are_borrowed_unless_they_have_an_escape() -> Result<()> {
    let object = parse(r#"{"plain":"déjà vu 😀","escaped":"a\tb\u0000\ud83d\ude00\\u0041\/é\""}"#);
    assert!(matches!(object.required("plain")?.string()?, Cow::Borrowed("déjà vu 😀")));
    assert!(matches!(object.required("escaped")?.string()?, Cow::Owned(s) if s == "a\tb\0😀\\u0041/é\""));
    Ok(())
}

#[test]
fn hex_is_read_in_either_case_and_nothing_else_is() -> Result<()> {
    assert_eq!(fixed_hex::<4>("00aAfF09")?, [0x00, 0xaa, 0xff, 0x09]);
    assert_eq!(fixed_hex::<0>("")?, [0; 0]);
    for text in [
        "", "0", "00", "000", "00000", "000000", "00 0", "0g00", "0x00", "0X00", "0x0000", "é00", "éé",
        "+000",
    ] {
        assert!(refused(fixed_hex::<2>(text)), "{text}");
    }
    let object = parse(
        r#"{"none":"","some":"\u0061Bc\u0044","a":"0","b":"0x","c":"0x00","d":"0X00","e":"0g","f":"é"}"#,
    );
    assert_eq!(any_hex(&object.required("none")?.string()?)?, [0; 0]);
    assert_eq!(any_hex(&object.required("some")?.string()?)?, [0xab, 0xcd]);
    assert_eq!(object.required("some")?.hex::<2>()?, [0xab, 0xcd]);
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert!(refused(any_hex(&object.required(name)?.string()?)), "{name}");
    }
    Ok(())
}

#[test]
fn nests_as_deep_as_allowed_and_no_deeper() {
    let arrays = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let objects = |depth: usize| format!("{}{{}}{}", "{\"a\":".repeat(depth - 1), "}".repeat(depth - 1));
    parse(&arrays(MAX_DEPTH));
    parse(&objects(MAX_DEPTH));
    assert!(refuses(arrays(MAX_DEPTH + 1)));
    assert!(refuses(objects(MAX_DEPTH + 1)));
    assert!(refuses(arrays(1_000_000)));
    assert!(refuses("[".repeat(1_000_000)));
    assert!(refuses(format!("{{\"a\":{}", "[".repeat(1_000_000))));
    assert!(refuses("{\"a\":".repeat(1_000_000)));
    // Depth is what is open, not what there was.
    parse(&format!("{{\"a\":[{}[]]}}", "[],{},[[1],{\"a\":{}}],".repeat(1000)));
}

/// Wherever in a block a special byte stands, it is seen.
#[test]
fn long_strings_are_looked_at_byte_by_byte() {
    for before in 0..200 {
        let (a, b) = ("é".repeat(before / 2) + &"x".repeat(before % 2), "y".repeat(199 - before));
        assert!(refuses(format!("{{\"a\":\"{a}\u{1f}{b}\"}}")));
        assert!(refuses(format!("{{\"a\":\"{a}\"{b}\"}}")));
        assert!(refuses(format!("{{\"a\":\"{a}\\q{b}\"}}")));
        let document = format!("{{\"a\":\"{a}\\n{b}\"}}");
        assert_eq!(
            parse(&document).required("a").and_then(Value::string).ok(),
            Some(format!("{a}\n{b}").into())
        );
        let document = format!("{{\"a\":\"{a}\"}}");
        assert_eq!(parse(&document).required("a").and_then(Value::string).ok(), Some(a.into()));
    }
}

/// Each of these would take minutes at least if any work grew with the square of the length.
#[test]
fn work_does_not_grow_with_the_square() {
    const MANY: usize = 200_000;
    let names =
        |prefix: &str, many: usize| (0..many).map(|i| format!("\"{prefix}{i}\":{i},")).collect::<String>();
    let plain = names("", MAX_NAMES - 2);
    assert_eq!(parse(&format!("{{{plain}\"x\":1}}")).fields().len(), MAX_NAMES - 1);
    assert!(refuses(format!("{{{plain}\"777\":1}}")));
    assert!(refuses(format!("{{{plain}\"\\u0030\":1}}")));
    let escaped = names("\\u0061\\n", MAX_NAMES - 2);
    parse(&format!("{{{escaped}\"x\":1}}"));
    assert!(refuses(format!("{{{escaped}\"a\\u000a777\":1}}")));
    // Those of all objects count, and the reader stops at the first too many.
    assert!(refuses(format!("{{\"a\":[{{{plain}\"x\":1}},{{{plain}\"x\":1}}]}}")));
    assert!(refuses(format!("{{{}\"x\":1}}", names("", MANY))));
    // Long values, escapes one by one, and a great many values without names.
    parse(&format!("{{\"a\":\"{}\",\"b\":[{}0]}}", "\\n".repeat(MANY), "\"\",\" \",".repeat(MANY)));
    parse(&format!("{{\"a\":[{}0]}}", "{},[],".repeat(MANY)));
    parse(&format!("{{\"a\":{0},\"b\":{0}.{0}e{0}}}{1}", "1".repeat(MANY), " ".repeat(MANY)));
}

#[test]
fn every_prefix_is_refused() {
    assert!((0..RECORD.len()).all(|length| refuses(&RECORD[..length])));
}
