//! The one spelling of an origin (RFC 6454, section 4; RFC 3986, section 6.2.3).

const LONGEST: usize = 300;

/// The spelling in which origins are compared and written down; an error says what is wrong.
pub(in crate::trust) fn normal(origin: &str) -> Result<String, &'static str> {
    if origin.is_empty() || origin.len() > LONGEST {
        return Err("an origin has 1 to 300 characters, such as https://example.com");
    }
    if !origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err("an origin is printable ASCII without spaces and #, such as https://example.com");
    }
    let origin = origin.to_ascii_lowercase();
    let Some((scheme, rest)) = origin.split_once("://") else {
        return Ok(origin);
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if scheme.is_empty() || authority.contains(['/', '?']) {
        return Err("an origin is a scheme, a host and a port and ends there: https://example.com:8443");
    }
    // A user name is no part of an origin, and a password has no place in a file.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // The colons in brackets are those of an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    if host.is_empty() || host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an origin has a host after ://, an IPv6 address in brackets: https://[::1]:8443");
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if port.is_empty() { None } else { Some(port.parse::<u16>().ok().filter(|_| digits)) };
    match (scheme, port) {
        (_, Some(None)) => Err("the port of an origin is a number up to 65535: https://example.com:8443"),
        (_, None) | ("http" | "ws", Some(Some(80))) | ("https" | "wss", Some(Some(443))) => {
            Ok(format!("{scheme}://{host}"))
        }
        (_, Some(Some(port))) => Ok(format!("{scheme}://{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_origin() {
        for (spelling, one) in [
            ("HTTPS://Example.COM", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("https://example.com:00443/", "https://example.com"),
            ("https://example.com:", "https://example.com"),
            ("https://user:pass@word@example.com", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("ws://example.com:80", "ws://example.com"),
            ("wss://example.com:443", "wss://example.com"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://[::1]", "http://[::1]"),
            ("Calendar", "calendar"),
        ] {
            assert_eq!(normal(spelling).as_deref(), Ok(one), "{spelling}");
            assert_eq!(normal(one).as_deref(), Ok(one));
        }
    }

    #[test]
    fn different_origins() {
        let all = [
            "http://example.com",
            "https://example.com",
            "http://example.com:443",
            "https://example.com:80",
            "https://example.com:8443",
            "https://www.example.com",
            "https://[::1]:444",
            "tcp://example.com:443",
            "example.com",
        ];
        for origin in all {
            assert_eq!(normal(origin).as_deref(), Ok(origin));
        }
    }

    #[test]
    fn what_is_none() {
        for origin in [
            "",
            "https://",
            "https://:443",
            "://example.com",
            "https://example.com/mcp",
            "https://example.com?a",
            "https://example.com//",
            "https://example.com:65536",
            "https://example.com:+443",
            "https://example.com:https",
            "https://::1",
            "https://[::1",
            "https://example.com#a",
            "two words",
            "https://bücher.example",
            "https://example.com\n",
            &"a".repeat(301),
        ] {
            assert!(normal(origin).is_err(), "{origin}");
        }
        assert!(normal(&"a".repeat(300)).is_ok());
    }
}
