//! Header fields that mirror a message, as MCP wants them since 2026-07-28 (Transports, Standard Headers), and the
//! version that a message names.

use std::collections::{HashMap, HashSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::connect::message::Line;

/// The first version that has them.
pub(super) const FIRST: &str = "2026-07-28";

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Tools whose annotations are kept.
const MOST_TOOLS: usize = 4096;

/// Which arguments of which tools go into header fields, as `tools/list` says.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// Whether they were, as far as that is possible.
    pub(super) is_listed: bool,
    annotated: HashMap<String, Vec<Annotation>>,
}

#[derive(Debug, PartialEq)]
struct Annotation {
    path: Vec<String>,
    field: HeaderName,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(rename = "_meta")]
    meta: Option<Value>,
}

fn params(line: &Line) -> Option<Params<'_>> {
    serde_json::from_slice::<Message<'_>>(&line.bytes).ok()?.params
}

/// The version that a request of the modern era names.
pub(super) fn version(line: &Line) -> Option<String> {
    let version = params(line)?.meta?.get("io.modelcontextprotocol/protocolVersion")?.as_str()?.to_owned();
    Some(version)
}

/// A request for the tools, on the page at `cursor`, with the meta data of `call`.
pub(super) fn list(call: &Line, number: u64, cursor: Option<&str>) -> Option<Line> {
    let mut params = serde_json::json!({ "_meta": params(call)?.meta? });
    if let Some(cursor) = cursor {
        params["cursor"] = cursor.into();
    }
    let id = format!("tower-seal-{number}");
    let list = serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list", "params": params });
    Line::read(list.to_string().into()).ok()
}

/// The fields of a message.
pub(super) fn mirrored(line: &Line, tools: &Tools) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let Some(method) = line.method() else { return fields };
    fields.extend(HeaderValue::from_str(method).ok().map(|method| (METHOD, method)));
    let Some(params) = params(line) else { return fields };
    let name = match method {
        "tools/call" | "prompts/get" => params.name,
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => params.uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" => params.task_id,
        _ => None,
    };
    let name = name.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    fields.extend(name.as_deref().and_then(encoded).map(|name| (NAME, name)));
    if method == "tools/call"
        && let Some(annotations) = name.and_then(|name| tools.annotated.get(&name))
        && let Some(arguments) =
            params.arguments.and_then(|text| serde_json::from_str::<Value>(text.get()).ok())
    {
        for Annotation { path, field } in annotations {
            let value = path.iter().try_fold(&arguments, |value, key| value.get(key));
            let text = match value {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                _ => continue,
            };
            fields.extend(encoded(&text).map(|value| (field.clone(), value)));
        }
    }
    fields
}

/// As it is, or in Base64 where it could not travel so.
fn encoded(text: &str) -> Option<HeaderValue> {
    const MARK: (&str, &str) = ("=?base64?", "?=");
    let is_marked = text.starts_with(MARK.0) && text.ends_with(MARK.1);
    let is_padded = text.starts_with(' ') || text.ends_with(' ');
    if !is_marked && !is_padded && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return HeaderValue::from_str(text).ok();
    }
    HeaderValue::try_from(format!("{}{}{}", MARK.0, BASE64_STANDARD.encode(text), MARK.1)).ok()
}

impl Tools {
    /// Reads an answer to `tools/list`: where the next page is. Of a tool that is listed again the later word counts.
    pub(super) fn learn(&mut self, answer: &Line) -> Option<String> {
        #[derive(Deserialize)]
        struct Answer {
            result: List,
        }
        #[derive(Deserialize)]
        struct List {
            tools: Vec<Tool>,
            #[serde(rename = "nextCursor")]
            next: Option<String>,
        }
        #[derive(Deserialize)]
        struct Tool {
            name: String,
            #[serde(rename = "inputSchema", default)]
            schema: Value,
        }
        let Answer { result } = serde_json::from_slice(&answer.bytes).ok()?;
        self.is_listed |= result.next.is_none();
        for Tool { name, schema } in result.tools {
            self.annotated.remove(&name);
            let mut found = Vec::new();
            if let Err(reason) = annotations(&schema, &mut Vec::new(), &mut found, &mut HashSet::new()) {
                tracing::warn!(tool = name, reason, "the annotations x-mcp-header of a tool cannot be used");
            } else if !found.is_empty() && self.annotated.len() < MOST_TOOLS {
                self.annotated.insert(name, found);
            }
        }
        result.next
    }
}

/// Those of all properties that are reached through `properties` alone.
fn annotations(
    schema: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<Annotation>,
    names: &mut HashSet<HeaderName>,
) -> Result<(), &'static str> {
    let Some(Value::Object(properties)) = schema.get("properties") else { return Ok(()) };
    for (property, schema) in properties {
        path.push(property.clone());
        if let Some(annotation) = schema.get("x-mcp-header") {
            let name = annotation.as_str().filter(|name| !name.is_empty()).ok_or("one is no name")?;
            let field = format!("mcp-param-{name}");
            let field = HeaderName::from_bytes(field.as_bytes()).map_err(|_| "one is no name of a field")?;
            if !names.insert(field.clone()) {
                return Err("two are the same");
            }
            if !matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
                return Err("one is of a type that fits into no field");
            }
            found.push(Annotation { path: path.clone(), field });
        }
        annotations(schema, path, found, names)?;
        path.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn line(text: impl Into<Bytes>) -> Line {
        Line::read(text.into()).unwrap()
    }

    fn tools(properties: &str) -> Tools {
        let mut tools = Tools::default();
        let schema = format!(r#"{{"type":"object","properties":{properties}}}"#);
        let list = format!(r#"{{"id":1,"result":{{"tools":[{{"name":"deploy","inputSchema":{schema}}}]}}}}"#);
        tools.learn(&line(list));
        tools
    }

    fn fields(message: &'static str, tools: &Tools) -> Vec<(String, String)> {
        let fields = mirrored(&line(message), tools);
        fields.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn method_and_name() {
        let none = Tools::default();
        for (message, expected) in [
            (r#"{"id":1,"method":"tools/list"}"#, pairs([("mcp-method", "tools/list")]).as_slice()),
            (
                r#"{"id":1,"method":"tools/call","params":{"name":"caf\u00e9"}}"#,
                &pairs([("mcp-method", "tools/call"), ("mcp-name", "=?base64?Y2Fmw6k=?=")]),
            ),
            (
                r#"{"id":1,"method":"resources/read","params":{"uri":"note://one","name":7}}"#,
                &pairs([("mcp-method", "resources/read"), ("mcp-name", "note://one")]),
            ),
            (
                r#"{"id":1,"method":"tasks/get","params":{"taskId":" t"}}"#,
                &pairs([("mcp-method", "tasks/get"), ("mcp-name", "=?base64?IHQ=?=")]),
            ),
            (
                r#"{"id":1,"method":"prompts/get","params":{"name":7}}"#,
                &pairs([("mcp-method", "prompts/get")]),
            ),
            (r#"{"id":1,"result":{}}"#, &[]),
        ] {
            assert_eq!(fields(message, &none), expected, "{message}");
        }
    }

    #[test]
    fn arguments_that_a_tool_wants_in_fields() {
        let tools = tools(
            r#"{"region":{"type":"string","x-mcp-header":"Region"},
                "at":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
                "dry":{"type":"boolean","x-mcp-header":"Dry"}}"#,
        );
        let call = r#"{"id":1,"method":"tools/call","params":{"name":"deploy",
            "arguments":{"region":"=?base64??=","at":{"n":-7},"dry":null}}}"#;
        let expected = pairs([
            ("mcp-method", "tools/call"),
            ("mcp-name", "deploy"),
            ("mcp-param-n", "-7"),
            ("mcp-param-region", "=?base64?PT9iYXNlNjQ/Pz0=?="),
        ]);
        let mut found = fields(call, &tools);
        found.sort();
        assert_eq!(found, expected);
        let other = r#"{"id":1,"method":"tools/call","params":{"name":"other","arguments":{"region":"x"}}}"#;
        assert_eq!(fields(other, &tools).len(), 2);
    }

    #[test]
    fn annotations_that_cannot_be_used_are_not() {
        for properties in [
            r#"{"a":{"type":"string","x-mcp-header":""}}"#,
            r#"{"a":{"type":"string","x-mcp-header":7}}"#,
            r#"{"a":{"type":"string","x-mcp-header":"a b"}}"#,
            r#"{"a":{"type":"number","x-mcp-header":"A"}}"#,
            r#"{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}"#,
        ] {
            assert!(tools(properties).annotated.is_empty(), "{properties}");
        }
    }

    #[test]
    fn the_version_that_a_request_names() {
        let named = r#"{"id":1,"method":"m","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        assert_eq!(version(&line(named)).as_deref(), Some("2026-07-28"));
        assert_eq!(version(&line(r#"{"id":1,"method":"m","params":{"_meta":{}}}"#)), None);
        assert_eq!(version(&line(r#"{"id":1,"method":"m"}"#)), None);
    }
}
