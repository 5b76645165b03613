//! The text of the file: what is in it, and changes that leave the rest of it as it is.

use std::{collections::HashMap, fmt};

use super::{KnownPeer, normal};
use crate::{error::Error, identity::NodeId};

const HEADER: &str =
    "# Known peers of tower-seal: an origin and the node id that was met there, one per line.\n";

pub(super) struct Lines {
    lines: Vec<Line>,
    changed: bool,
}

/// The line of a peer, or all the lines in a row that have none, so that blank ones cost no more than their bytes.
struct Line {
    /// With the end of the line.
    text: String,
    peer: Option<KnownPeer>,
}

impl Lines {
    /// Errors: the number of a line, and what is wrong with it and what to do.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut seen = HashMap::new();
        let mut lines = Vec::new();
        for (number, text) in (1..).zip(text.split_inclusive('\n')) {
            let peer = parse_line(text)
                .map_err(|reason| (number, format!("{reason}; correct this line, or delete it")))?;
            if let Some(peer) = &peer
                && let Some(first) = seen.insert(peer.origin.clone(), number)
            {
                let reason = format!("this origin is on line {first} already; delete one of the two lines");
                return Err((number, reason));
            }
            match lines.last_mut() {
                Some(Line { text: above, peer: None }) if peer.is_none() => above.push_str(text),
                _ => lines.push(Line { text: text.to_owned(), peer }),
            }
        }
        Ok(Lines { lines, changed: false })
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &KnownPeer> {
        self.lines.iter().filter_map(|line| line.peer.as_ref())
    }

    /// `origin` is a [`normal`] one, here and below.
    pub(super) fn node(&self, origin: &str) -> Option<NodeId> {
        self.peers().find(|peer| peer.origin == origin).map(|peer| peer.node_id)
    }

    pub(super) fn set(&mut self, origin: String, node_id: NodeId) {
        self.changed = true;
        for line in &mut self.lines {
            if let Some(peer) = line.peer.as_mut().filter(|peer| peer.origin == origin) {
                let comment = line.text.find('#').map_or("\n", |start| &line.text[start..]);
                let space = if comment.starts_with('#') { " " } else { "" };
                line.text = format!("{origin} {node_id}{space}{comment}");
                peer.node_id = node_id;
                return;
            }
        }
        match self.lines.last_mut() {
            None => self.lines.push(Line { text: HEADER.to_owned(), peer: None }),
            Some(last) if !last.text.ends_with('\n') => last.text.push('\n'),
            Some(_) => {}
        }
        let text = format!("{origin} {node_id}\n");
        self.lines.push(Line { text, peer: Some(KnownPeer { origin, node_id }) });
    }

    pub(super) fn remove(&mut self, origin: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| line.peer.as_ref().is_none_or(|peer| peer.origin != origin));
        let removed = self.lines.len() < before;
        self.changed |= removed;
        removed
    }

    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| f.write_str(&line.text))
    }
}

fn parse_line(line: &str) -> Result<Option<KnownPeer>, &'static str> {
    // Some editors put a mark at the beginning of a file that says that it is UTF-8.
    let line = line.trim_start_matches('\u{feff}');
    let line = line.split_once('#').map_or(line, |(line, _)| line);
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Ok(None),
        (Some(origin), Some(node_id), None) => {
            let origin = normal(origin)?;
            let node_id = node_id.parse().map_err(|error| match error {
                Error::Misuse { reason } => reason,
                _ => "a node id is 64 hex digits",
            })?;
            Ok(Some(KnownPeer { origin, node_id }))
        }
        _ => Err("a line is `ORIGIN NODE_ID`, then perhaps a comment that begins with #"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(digit: u8) -> NodeId {
        NodeId::from_bytes([digit * 0x11; 32])
    }

    fn fault(text: &str) -> (usize, String) {
        Lines::parse(text).err().unwrap()
    }

    #[test]
    fn a_new_file_says_what_it_is() {
        let mut lines = Lines::parse("").unwrap();
        lines.set("https://a".into(), node(1));
        assert_eq!(lines.to_string(), format!("{HEADER}https://a {}\n", node(1)));
    }

    #[test]
    fn what_people_write_stays() {
        let text = format!(
            "\u{feff}# mine\r\n\n  HTTPS://A:443\t{} # the old one\r\n\n#https://c\nhttps://b {}",
            node(1),
            node(2).to_string().to_uppercase()
        );
        let mut lines = Lines::parse(&text).unwrap();
        assert_eq!(lines.to_string(), text);
        assert!(!lines.is_changed() && !lines.remove("https://c") && !lines.is_changed());
        assert_eq!(lines.node("https://a"), Some(node(1)));
        assert_eq!(lines.node("https://b"), Some(node(2)));
        assert_eq!(lines.node("https://c"), None);

        lines.set("https://c".into(), node(3));
        lines.set("https://a".into(), node(4));
        assert!(lines.is_changed() && lines.remove("https://b"));
        let expected = format!(
            "\u{feff}# mine\r\n\nhttps://a {} # the old one\r\n\n#https://c\nhttps://c {}\n",
            node(4),
            node(3)
        );
        assert_eq!(lines.to_string(), expected);
        assert_eq!(Lines::parse(&expected).unwrap().peers().count(), 2);
    }

    #[test]
    fn damaged_lines_are_named() {
        let good = format!("# comment\nhttps://a {}\n", node(1));
        for (line, word) in [
            ("https://b".to_owned(), "`ORIGIN NODE_ID`"),
            (format!("https://b {} {}", node(1), node(2)), "`ORIGIN NODE_ID`"),
            (format!("https://b {:.63}", node(1)), "these are fewer"),
            (format!("https://b/path {}", node(1)), "ends there"),
            (format!("https://A:443 {}", node(1)), "on line 2 already; delete one"),
        ] {
            let (number, reason) = fault(&format!("{good}{line}\n{good}"));
            assert_eq!(number, 3, "{line}");
            assert!(reason.contains(word) && reason.contains("delete"), "{reason}");
        }
    }
}
