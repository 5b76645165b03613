//! Section 2 and the notation: what hello and reply look like, and what does not pass for one.

use serde_json::{Value, json};
use tower_seal::{
    Error,
    error::Code,
    protocol::{Destination, Initiator},
};

use crate::support::{Pair, assert_misuse, code};

/// To whom a message goes: a hello to the responder, a reply to the initiator.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Responder,
    Initiator,
}

const EITHER: [To; 2] = [To::Responder, To::Initiator];

/// Sends a good message, after `edit` has been at it.
fn deliver(to: To, edit: impl FnOnce(Value) -> Vec<u8>) -> Result<(), Error> {
    let mut pair = Pair::new();
    match to {
        To::Responder => {
            let hello = edit(pair.hello().json());
            pair.accept(&hello).map(drop)
        }
        To::Initiator => {
            let (initiator, reply) = pair.reply();
            initiator.finish(&edit(reply.json()), pair.now).map(drop)
        }
    }
}

fn set(to: To, name: &str, value: Value) -> Result<(), Error> {
    deliver(to, |mut json| {
        json[name] = value;
        json.to_string().into_bytes()
    })
}

/// `text` instead of the opening brace.
fn begin(to: To, text: &str) -> Result<(), Error> {
    deliver(to, |json| json.to_string().replacen('{', text, 1).into_bytes())
}

fn fields(to: To) -> &'static [&'static str] {
    match to {
        To::Responder => &["type", "version", "public_key", "node_id", "suites", "signatures", "signature"],
        To::Initiator => &[
            "type",
            "version",
            "public_key",
            "node_id",
            "suite",
            "signatures",
            "session",
            "expires_in",
            "signature",
        ],
    }
}

#[test]
fn a_message_of_16_kib_is_taken_and_one_byte_more_is_too_large() {
    for to in EITHER {
        let padded = |length: usize| {
            deliver(to, move |mut json| {
                json["padding"] = "".into();
                let missing = length - json.to_string().len();
                json["padding"] = "x".repeat(missing).into();
                assert_eq!(json.to_string().len(), length);
                json.to_string().into_bytes()
            })
        };
        padded(16 << 10).unwrap();
        assert_eq!(code(padded((16 << 10) + 1)), Code::TooLarge);
    }
    let mut pair = Pair::new();
    assert_eq!(code(pair.accept(&[b'{'; 1 << 20])), Code::TooLarge);
}

#[test]
fn no_hello_above_16_kib_is_made() {
    let mut pair = Pair::new();
    let long = "x".repeat(16 << 10);
    let to = Destination { target: Some(&long), ..Destination::default() };
    assert_misuse(Initiator::start(&pair.client, to, &mut pair.rng));
}

#[test]
fn every_field_is_needed_but_audience_and_extensions() {
    for to in EITHER {
        for name in fields(to) {
            let without = deliver(to, |mut json| {
                json.as_object_mut().unwrap().remove(*name).unwrap();
                json.to_string().into_bytes()
            });
            assert_eq!(code(without), Code::Malformed, "{name}");
        }
    }
}

#[test]
fn every_field_has_one_type() {
    let values =
        [json!(true), json!({}), json!([]), json!([1]), json!(-1), json!(1.0), json!(""), json!("x")];
    for to in EITHER {
        for name in fields(to).iter().chain(&["extensions"]) {
            for value in &values {
                if *name == "suite" && value.is_string() || *name == "extensions" && *value == json!({}) {
                    continue;
                }
                assert_eq!(code(set(to, name, value.clone())), Code::Malformed, "{name}: {value}");
            }
        }
    }
    assert_eq!(code(set(To::Responder, "audience", json!(""))), Code::Malformed);
    assert_eq!(code(set(To::Responder, "suites", json!(["x25519-aes256gcm-sha256", 1]))), Code::Malformed);
}

#[test]
fn hex_has_exactly_the_right_length_and_only_digits() {
    let odd: [fn(&str) -> String; 7] = [
        |hex| hex[1..].to_owned(),
        |hex| hex[2..].to_owned(),
        |hex| format!("{hex}0"),
        |hex| format!("{hex}00"),
        |hex| format!("0x{hex}"),
        |hex| format!("0x{}", &hex[2..]),
        |hex| format!(" {}", &hex[1..]),
    ];
    for to in EITHER {
        for name in ["public_key", "node_id", "signature", "session", "audience"] {
            let exists = fields(to).contains(&name) || (to, name) == (To::Responder, "audience");
            for spoil in odd.iter().filter(|_| exists) {
                let result = deliver(to, |mut json| {
                    let hex = json[name].as_str().map_or_else(|| "0".repeat(64), str::to_owned);
                    json[name] = spoil(&hex).into();
                    json.to_string().into_bytes()
                });
                assert_eq!(code(result), Code::Malformed, "{name}");
            }
        }
    }
}

#[test]
fn hex_is_read_in_either_case_and_means_the_same() {
    for to in EITHER {
        deliver(to, |mut json| {
            for name in ["public_key", "node_id", "session", "signature"] {
                if let Some(hex) = json.get(name) {
                    json[name] = hex.as_str().unwrap().to_uppercase().into();
                }
            }
            json.to_string().into_bytes()
        })
        .unwrap();
    }
}

#[test]
fn a_hello_is_the_same_hello_however_its_json_is_written() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.accept(&hello.message()).unwrap();
    let spaced = serde_json::to_string_pretty(&hello.json()).unwrap();
    assert_eq!(code(pair.accept(spaced.as_bytes())), Code::Replayed);
    let mut shouted = hello.json();
    shouted["signature"] = shouted["signature"].as_str().unwrap().to_uppercase().into();
    shouted["unknown"] = 1.into();
    assert_eq!(code(pair.accept(shouted.to_string().as_bytes())), Code::Replayed);
    let escaped = hello.json().to_string().replace("node_id", "\\u006eode_id");
    assert_eq!(code(pair.accept(escaped.as_bytes())), Code::Replayed);
}

#[test]
fn unknown_fields_are_ignored() {
    for to in EITHER {
        for (name, value) in [("hop", json!({"via": [1, 2.5, true]})), ("", json!("")), ("Version", json!(9))]
        {
            set(to, name, value).unwrap();
        }
        begin(to, " \r\n\t{ ").unwrap();
    }
}

#[test]
fn a_name_twice_is_malformed_anywhere() {
    for to in EITHER {
        for text in [
            r#"{"version":1,"#,
            r#"{"versio\u006e":1,"#,
            r#"{"x":1,"x":1,"#,
            r#"{"x":[{"y":1,"y":1}],"#,
            r#"{"extensions":{},"#,
        ] {
            assert_eq!(code(begin(to, text)), Code::Malformed, "{text}");
        }
    }
}

#[test]
fn a_null_is_malformed_anywhere() {
    for to in EITHER {
        for text in [r#"{"x":null,"#, r#"{"x":[1,null],"#, r#"{"x":{"y":{"z":null}},"#, r#"{"audienc":null,"#]
        {
            assert_eq!(code(begin(to, text)), Code::Malformed, "{text}");
        }
    }
    assert_eq!(code(set(To::Responder, "audience", Value::Null)), Code::Malformed);
    assert_eq!(code(set(To::Responder, "extensions", Value::Null)), Code::Malformed);
}

#[test]
fn a_lone_surrogate_is_malformed_anywhere() {
    for to in EITHER {
        for text in
            [r#"{"x":"\ud800","#, r#"{"x":"\udc00\ud800","#, r#"{"\udfff":1,"#, r#"{"x":[{"y":"\ud83d!"}],"#]
        {
            assert_eq!(code(begin(to, text)), Code::Malformed, "{text}");
        }
        begin(to, r#"{"x":"\ud83d\ude00","#).unwrap();
    }
}

#[test]
fn what_is_not_one_json_object_in_utf_8_is_malformed() {
    for to in EITHER {
        let edits: [fn(Value) -> Vec<u8>; 8] = [
            |_| Vec::new(),
            |_| b"{}".to_vec(),
            |json| json.to_string().as_bytes()[1..].to_vec(),
            |json| format!("[{json}]").into_bytes(),
            |json| format!("{json}{json}").into_bytes(),
            |json| format!("{json},").into_bytes(),
            |json| format!("\u{feff}{json}").into_bytes(),
            |json| json.to_string().replacen('{', "{\"x\":\"\u{0}\",", 1).into_bytes(),
        ];
        for edit in edits {
            assert_eq!(code(deliver(to, edit)), Code::Malformed);
        }
        let latin = |json: Value| [b"{\"x\":\"\xe9\",", &json.to_string().as_bytes()[1..]].concat();
        assert_eq!(code(deliver(to, latin)), Code::Malformed);
    }
}

#[test]
fn numbers_are_whole_and_at_most_2_to_the_53_less_1() {
    for to in EITHER {
        for number in ["1.0", "1e0", "10e-1", "-1", "01", "+1", "\"1\"", "9007199254740992"] {
            let result = deliver(to, |json| {
                json.to_string().replace("\"version\":1", &format!("\"version\":{number}")).into_bytes()
            });
            assert_eq!(code(result), Code::Malformed, "{number}");
        }
    }
    let mut pair = Pair::new();
    let (initiator, mut reply) = pair.reply();
    reply.expires_in = 1 << 53;
    assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed);
    let (initiator, mut reply) = pair.reply();
    reply.expires_in = (1 << 53) - 1;
    initiator.finish(&reply.message(), pair.now).unwrap();
}

#[test]
fn a_handshake_message_of_another_type_is_malformed() {
    for to in EITHER {
        for name in ["encrypted", "error", "Key_exchange", "key_exchange "] {
            assert_eq!(code(set(to, "type", name.into())), Code::Malformed);
        }
    }
}

#[test]
fn a_hello_names_at_least_one_suite() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.suites.clear();
    assert_eq!(code(pair.accept(&hello.message())), Code::Malformed);
}

#[test]
fn a_signature_policy_is_one_of_two() {
    for policy in ["", "Every", "none", "every "] {
        let mut pair = Pair::new();
        let mut hello = pair.hello();
        hello.signatures = policy.into();
        assert_eq!(code(pair.accept(&hello.message())), Code::Malformed);
        let (initiator, mut reply) = pair.reply();
        reply.signatures = policy.into();
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed);
    }
}

#[test]
fn extensions_may_be_left_out_where_they_are_empty() {
    for to in EITHER {
        deliver(to, |mut json| {
            assert_eq!(json.as_object_mut().unwrap().remove("extensions"), Some(json!({})));
            json.to_string().into_bytes()
        })
        .unwrap();
    }
}

#[test]
fn extensions_are_printable_ascii_or_malformed() {
    for bad in ["\u{1f}", "\u{7f}", "é", "a\nb", "\0"] {
        let mut pair = Pair::new();
        let to = Destination { target: Some("/mcp"), ..Destination::default() };
        let (initiator, mut reply) = pair.reply_to(to);
        reply.extensions.insert("target".into(), bad.into());
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed, "{bad:?}");
        let to = Destination { target: Some(bad), ..Destination::default() };
        assert_misuse(Initiator::start(&pair.client, to, &mut pair.rng));
        for (name, value) in [("x", bad), (bad, "x")] {
            let mut pair = Pair::new();
            let mut hello = pair.hello();
            hello.extensions.insert(name.into(), value.into());
            assert_eq!(code(pair.accept(&hello.message())), Code::Malformed, "{bad:?}");
        }
    }
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.extensions.insert(" \"\\/~".into(), " !\"\\~".into());
    hello.extensions.insert(String::new(), String::new());
    pair.accept(&hello.message()).unwrap();
}
