//! Who may use this user's key through `proxy`: the programs of this machine, and no web page.
//!
//! A browser lets any page send requests to ports of its own machine. What it cannot be made to leave out is
//! `Origin`, and what a page that gave its own name this machine's address (DNS rebinding) cannot forge is `Host`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts, uri::Authority};

/// The field in which browsers say what asks, also where they send no `Origin`.
const SITE: &str = "sec-fetch-site";

/// Options about who may ask.
#[derive(clap::Args)]
pub(crate) struct Callers {
    /// Web pages of this origin may use the proxy, besides those of this machine; may be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = Origin::parse)]
    allow_origin: Vec<Origin>,

    /// The proxy may be called by this name, besides localhost and loopback addresses; may be repeated
    #[arg(long, value_name = "NAME", value_parser = name)]
    allow_host: Vec<String>,
}

/// Decides about requests by where they come from, as a browser says, and how they call the proxy.
pub(crate) struct Guard {
    callers: Callers,
    checks_host: bool,
}

impl Guard {
    /// On a listener that only this machine reaches, each name is checked; elsewhere, if names are given.
    pub(crate) fn new(callers: Callers, listener: SocketAddr) -> Self {
        let checks_host = listener.ip().to_canonical().is_loopback() || !callers.allow_host.is_empty();
        Guard { callers, checks_host }
    }

    /// Errors: a code, and a sentence.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), (&'static str, String)> {
        if self.checks_host {
            let target = request.uri.authority().map(|authority| authority.as_str().as_bytes());
            let fields = request.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
            if let Some(host) = target.into_iter().chain(fields).find(|host| !self.is_own(host)) {
                return Err(("forbidden_host", forbidden_host(host)));
            }
        }
        let mut origins = request.headers.get_all(header::ORIGIN).iter().peekable();
        if origins.peek().is_none() && is_cross_site(&request.headers) {
            return Err(("forbidden_origin", forbidden_origin("of another site", None)));
        }
        match origins.find(|origin| !self.is_let_in(origin)) {
            None => Ok(()),
            Some(origin) => Err(("forbidden_origin", foreign(origin))),
        }
    }

    fn is_own(&self, host: &[u8]) -> bool {
        let Ok(authority) = Authority::try_from(host) else { return false };
        let name = authority.host();
        !authority.as_str().contains('@')
            && (is_loopback(name) || self.callers.allow_host.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }

    fn is_let_in(&self, origin: &HeaderValue) -> bool {
        let Some(origin) = origin.to_str().ok().and_then(|text| Origin::parse(text).ok()) else {
            return false;
        };
        let web = ["http", "https"].contains(&&*origin.scheme);
        web && is_loopback(&origin.host) || self.callers.allow_origin.contains(&origin)
    }
}

/// Who asked for a page or a picture, say, of a proxy that is none of its own.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get_all(SITE).iter().any(|site| site == "cross-site")
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

fn forbidden_host(host: &[u8]) -> String {
    let Ok(authority) = Authority::try_from(host) else {
        return "The request names no host: call the proxy localhost, or by a loopback address.".to_owned();
    };
    let name = authority.host();
    format!(
        "The request is for {name}, and this proxy lends this user's key only to who calls it localhost or by a \
         loopback address, lest web pages get at it: call it so, or start it with --allow-host {name}."
    )
}

fn foreign(origin: &HeaderValue) -> String {
    match origin.to_str().ok().filter(|text| Origin::parse(text).is_ok()) {
        Some(origin) => forbidden_origin(&format!("of {origin}"), Some(origin)),
        None => forbidden_origin("that does not say its origin", None),
    }
}

fn forbidden_origin(whose: &str, origin: Option<&str>) -> String {
    format!(
        "A web page {whose} asked, and this proxy lends this user's key to no foreign page: if that one may use it, \
         start the proxy with --allow-origin {}.",
        origin.unwrap_or("ORIGIN")
    )
}

/// A scheme, a host and a port (RFC 6454), in small letters and without the port that the scheme has anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// For clap, which puts the value and the option before the reason.
    fn parse(text: &str) -> Result<Self, String> {
        const WRONG: &str =
            "give a scheme, a host and perhaps a port, and no more, such as https://example.com";
        let uri: Uri = text.parse().map_err(|_| WRONG)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(WRONG.to_owned());
        };
        if authority.as_str().contains('@')
            || uri.path().len() > 1
            || uri.query().is_some()
            || text.ends_with('/')
        {
            return Err(WRONG.to_owned());
        }
        let scheme = scheme.to_ascii_lowercase();
        let usual = match &*scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = authority.port_u16().filter(|port| Some(*port) != usual);
        Ok(Origin { scheme, host: authority.host().to_ascii_lowercase(), port })
    }
}

/// For clap, which puts the value and the option before the reason.
fn name(text: &str) -> Result<String, String> {
    let authority = text.parse().ok().filter(|authority: &Authority| authority.host() == text);
    authority
        .map(|authority| authority.host().to_owned())
        .ok_or_else(|| "give a host without a port, such as proxy.example".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    fn guard(listener: &str, origins: &[&str], hosts: &[&str]) -> Guard {
        let allow_origin = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        let allow_host = hosts.iter().map(|host| name(host).unwrap()).collect();
        Guard::new(Callers { allow_origin, allow_host }, listener.parse().unwrap())
    }

    fn code(guard: &Guard, uri: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
        let request = fields
            .iter()
            .fold(Request::builder().uri(uri), |request, (name, value)| request.header(*name, *value));
        guard.check(&request.body(()).unwrap().into_parts().0).err().map(|(code, _)| code)
    }

    #[test]
    fn names_of_this_machine_and_no_others() {
        let loopback = guard("127.0.0.1:8080", &[], &["Proxy.example"]);
        for own in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:8080",
            "127.8.8.8",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "proxy.example",
            "PROXY.EXAMPLE:81",
        ] {
            assert_eq!(code(&loopback, "/", &[("host", own)]), None, "{own}");
            assert_eq!(code(&loopback, &format!("http://{own}/"), &[]), None, "{own}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "a.localhost",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "",
            "a@localhost",
            "[::2]",
            "0.0.0.0",
            "a b",
            "proxy.example.",
        ] {
            assert_eq!(code(&loopback, "/", &[("host", foreign)]), Some("forbidden_host"), "{foreign}");
        }
        let both = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(code(&loopback, "/", &both), Some("forbidden_host"));
        assert_eq!(code(&loopback, "http://evil.example/", &both[..1]), Some("forbidden_host"));
        let evil = [("host", "evil.example")];
        assert_eq!(code(&guard("[::1]:1", &[], &[]), "/", &evil), Some("forbidden_host"));
        assert_eq!(code(&guard("0.0.0.0:1", &[], &[]), "/", &evil), None);
        assert_eq!(code(&guard("0.0.0.0:1", &[], &["good.example"]), "/", &evil), Some("forbidden_host"));
    }

    #[test]
    fn pages_of_this_machine_and_no_others() {
        for listener in ["127.0.0.1:1", "0.0.0.0:1"] {
            let guard = guard(listener, &["HTTPS://good.example:443", "app://one"], &[]);
            for own in [
                "http://localhost:3000",
                "https://127.0.0.1",
                "http://[::1]:80",
                "https://good.example",
                "https://GOOD.example:443",
                "app://one",
            ] {
                assert_eq!(code(&guard, "/", &[("origin", own)]), None, "{own}");
            }
            for foreign in [
                "null",
                "",
                "https://evil.example",
                "http://good.example",
                "https://good.example:444",
                "app://two",
                "app://localhost",
                "https://localhost.evil.example",
                "http://localhost/",
                "http://a@localhost",
            ] {
                assert_eq!(code(&guard, "/", &[("origin", foreign)]), Some("forbidden_origin"), "{foreign}");
            }
            let two = [("origin", "http://localhost"), ("origin", "https://evil.example")];
            assert_eq!(code(&guard, "/", &two), Some("forbidden_origin"));
            // A picture, say, for which a browser sends no origin.
            assert_eq!(code(&guard, "/", &[(SITE, "cross-site")]), Some("forbidden_origin"));
            assert_eq!(code(&guard, "/", &[(SITE, "cross-site"), two[0]]), None);
            assert_eq!(code(&guard, "/", &[(SITE, "none")]), None);
        }
    }

    #[test]
    fn what_is_no_origin_or_name() {
        for text in [
            "example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a?b",
            "https://a@b",
            "null",
            "*",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
        for text in ["", "a:80", "http://a", "a/b", "a b", "*@a"] {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(name("[::2]").as_deref(), Ok("[::2]"));
    }
}
