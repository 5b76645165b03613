//! Which MCP requests may be run twice.

use std::{borrow::Cow, collections::HashSet, fmt, marker::PhantomData};

use http::{Method, request::Parts};
use rmcp::model::Tool;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Requests and notifications of a client that do no harm when they are run a second time.
///
/// Taken from both eras (MCP 2025-11-25 and 2026-07-28) and rmcp's extensions.
const HARMLESS: [&str; 26] = [
    // They read.
    "completion/complete",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/directory/read",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "server/discover",
    "skills/get",
    "skills/list",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tools/list",
    // They open what ends by itself when nobody reads it: a session, a stream.
    "initialize",
    "subscriptions/listen",
    // They set what stays as it is when set again, or answer a question that takes one answer.
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "tasks/cancel",
    "tasks/update",
    // They tell what stays true.
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
];

/// Decides whether an MCP request may be run twice.
///
/// Needed when a session is lost between a request and its answer: it cannot be known then whether the
/// request was served. What may be repeated is repeated in a new session, and the caller notices nothing;
/// of the rest the caller hears that the outcome is unknown.
///
/// | A message that                        | may be repeated since
/// |---------------------------------------|-----------------------------------------------------------------
/// | reads: `…/list`, `…/get`, `…/read`, `ping`, `server/discover`, `completion/complete`, `tasks/result` | nothing changes
/// | opens: `initialize`, `subscriptions/listen` | nobody has the first session or stream, and it ends by itself
/// | sets: `logging/setLevel`, `resources/subscribe`, `resources/unsubscribe`, `tasks/cancel` | the second time changes nothing
/// | answers: a response, `tasks/update`   | the question is answered once, and ignores or refuses a second answer
/// | tells: `notifications/…` of MCP       | it stays true
/// | calls a tool: `tools/call`            | the tool's annotations say `readOnlyHint` or `idempotentHint`
///
/// Everything else is run once: a call of any other tool, a method that is not MCP's (its server may do
/// anything), and a body that is no JSON-RPC message, is cut short, or names its method or tool twice. A
/// batch may be repeated when each of its messages may, and so may the `DELETE` that ends a session.
///
/// The annotations are the server's word, so they count as much as the server is trusted. A tool that works
/// as a task counts as its annotations say.
#[derive(Clone, Debug, Default)]
pub struct Repeatable {
    tools: HashSet<String>,
}

impl Repeatable {
    /// Repeats no call of a tool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Repeats calls of those of `tools` whose annotations allow it.
    ///
    /// Give it each page of one server's `tools/list`; of a tool that is listed again the later word counts.
    #[must_use]
    pub fn with_tools<'a>(mut self, tools: impl IntoIterator<Item = &'a Tool>) -> Self {
        for tool in tools {
            let hinted = tool.annotations.as_ref().is_some_and(|hints| {
                hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true)
            });
            if hinted {
                self.tools.insert(tool.name.clone().into_owned());
            } else {
                self.tools.remove(&*tool.name);
            }
        }
        self
    }

    /// Whether the JSON-RPC message or batch `body` may be run twice.
    #[must_use]
    pub fn is_repeatable(&self, body: &[u8]) -> bool {
        if body.trim_ascii_start().starts_with(b"[") {
            let batch: Result<Vec<Object<Message<'_>>>, _> = serde_json::from_slice(body);
            batch.is_ok_and(|batch| !batch.is_empty() && batch.iter().all(|message| self.allows(&message.0)))
        } else {
            let message: Result<Object<Message<'_>>, _> = serde_json::from_slice(body);
            message.is_ok_and(|message| self.allows(&message.0))
        }
    }

    /// This decision for [`http`](crate::http), as a function of a request's head and body.
    pub fn into_predicate(self) -> impl Fn(&Parts, &[u8]) -> bool + Clone + Send + Sync + 'static {
        move |head, body| head.method == Method::DELETE || self.is_repeatable(body)
    }

    fn allows(&self, message: &Message<'_>) -> bool {
        match &*message.method {
            "tools/call" => {
                message.params.as_ref().is_some_and(|params| self.tools.contains(&*params.0.name))
            }
            "" => message.result.is_some() || message.error.is_some(),
            method => HARMLESS.contains(&method),
        }
    }
}

/// What decides of a JSON-RPC message. Derived code refuses fields that come twice.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<Object<Params<'a>>>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

/// A `T` written as a JSON object: derived code would take an array of its fields, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use rmcp::model::ToolAnnotations;

    use super::*;

    fn tool(name: &'static str, annotations: Option<ToolAnnotations>) -> Tool {
        let mut tool = Tool::new(name, "", Arc::default());
        tool.annotations = annotations;
        tool
    }

    fn repeatable() -> Repeatable {
        let hints = ToolAnnotations::new;
        Repeatable::new().with_tools(&[
            tool("look", Some(hints().read_only(true))),
            tool("put", Some(hints().read_only(false).idempotent(true))),
            tool("add", Some(hints().read_only(false).idempotent(false).destructive(false))),
            tool("bare", Some(hints())),
            tool("none", None),
        ])
    }

    #[test]
    fn repeats_what_does_no_harm() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#" {"method":"tools/list","params":null} "#,
            r#"{"method":"tools/list","params":{"_meta":{"name":7},"cursor":"x"}}"#,
            r#"{"method":"prompts/get","params":{"name":"none"}}"#,
            r#"{"method":"notifications/cancelled","params":{"requestId":3}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
            r#"{"method":"tools/call","params":{"name":"look","arguments":{"name":"none"}}}"#,
            r#"{"params":{"arguments":[1],"name":"put"},"method":"tools/call"}"#,
            r#"{"m\u0065thod":"tools\/c\u0061ll","params":{"n\u0061me":"l\u006fok"}}"#,
            r#"[{"method":"ping"},{"method":"tools/call","params":{"name":"put"}},{"result":{}}]"#,
        ] {
            assert!(repeatable().is_repeatable(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn runs_once_what_could_do_harm_or_cannot_be_read() {
        for body in [
            r#"{"method":"tools/call","params":{"name":"add"}}"#,
            r#"{"method":"tools/call","params":{"name":"bare"}}"#,
            r#"{"method":"tools/call","params":{"name":"none"}}"#,
            r#"{"method":"tools/call","params":{"name":"unlisted"}}"#,
            r#"{"method":"tools\/c\u0061ll","params":{"name":"none"}}"#,
            r#"{"method":"tools/call","params":{"arguments":{"name":"look"}}}"#,
            r#"{"method":"tools/call","params":["look"]}"#,
            r#"{"method":"tools/call","params":{"name":["look"]}}"#,
            r#"{"method":"tools/call"}"#,
            r#"{"method":"accounts/transfer"}"#,
            r#"{"method":"notifications/launch"}"#,
            r#"{"method":"PING"}"#,
            // Named twice: another reader may take the other one.
            r#"{"method":"ping","method":"tools/call","params":{"name":"none"}}"#,
            r#"{"method":"ping","m\u0065thod":"tools/call","params":{"name":"none"}}"#,
            r#"{"method":"tools/call","params":{"name":"look","name":"none"}}"#,
            r#"{"method":"tools/call","params":{"name":"look"},"params":{"name":"none"}}"#,
            // No message, or not all of one.
            r#"["ping"]"#,
            r#"[["ping"]]"#,
            r#"[]"#,
            r#"{}"#,
            r#"{"id":1}"#,
            r#"{"method":"ping"}{"method":"tools/call"}"#,
            r#"{"method":"ping""#,
            r#"{"method":"ping","params":{"a":"#,
            r#"[{"method":"ping"},"#,
            r#"[{"method":"ping"},{"method":"tools/call","params":{"name":"none"}}]"#,
            "\"ping\"",
            "null",
            "",
            "\u{feff}{\"method\":\"ping\"}",
        ] {
            assert!(!repeatable().is_repeatable(body.as_bytes()), "{body}");
        }
        assert!(!repeatable().is_repeatable(b"{\"method\":\"ping\xff\"}"));
    }

    #[test]
    fn new_repeats_no_tool_and_the_later_listing_counts() {
        let body = br#"{"method":"tools/call","params":{"name":"look"}}"#;
        assert!(!Repeatable::new().is_repeatable(body));
        assert!(repeatable().is_repeatable(body));
        assert!(!repeatable().with_tools(&[tool("look", None)]).is_repeatable(body));
    }

    #[test]
    fn predicate_lets_a_session_end_twice() {
        let predicate = repeatable().into_predicate();
        let head = |method| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            request.into_parts().0
        };
        assert!(predicate(&head(Method::DELETE), b""));
        assert!(predicate(&head(Method::POST), br#"{"method":"ping"}"#));
        assert!(!predicate(&head(Method::POST), b""));
    }
}
