//! What the reader sees: chapters, lines of at most [`WIDTH`] columns, and claims that hold or do not.

use std::io::{Result, Write};

use anstyle::{AnsiColor, Style};

/// Columns of a line.
const WIDTH: usize = 100;

/// Columns of the margin, and of a label in it.
const MARGIN: usize = 3;
const LABEL: usize = 15;

/// A space at which no line is broken.
pub(super) const NO_BREAK: &str = "\u{a0}";

const STRONG: Style = Style::new().bold();
const PLAIN: Style = Style::new();
const WIRE: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Writes the show, and remembers which claims did not hold.
pub(super) struct Show<W> {
    out: W,
    chapter: u32,
    claims: usize,
    broken: Vec<String>,
}

impl<W: Write> Show<W> {
    pub(super) fn new(out: W) -> Self {
        Show { out, chapter: 0, claims: 0, broken: Vec::new() }
    }

    /// Begins a chapter.
    pub(super) fn chapter(&mut self, title: &str) -> Result<()> {
        self.chapter += 1;
        let number = self.chapter;
        writeln!(self.out, "\n{STRONG}{number}  {title}{STRONG:#}")
    }

    /// A paragraph at the margin.
    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        wrap(text, WIDTH).iter().try_for_each(|line| writeln!(self.out, "{line}"))
    }

    /// Something with a name.
    pub(super) fn fact(&mut self, label: &str, text: &str) -> Result<()> {
        self.block(label, LABEL, PLAIN, text)
    }

    /// Bytes from the wire, in another colour.
    pub(super) fn wire(&mut self, label: &str, text: &str) -> Result<()> {
        self.block(label, LABEL, WIRE, text)
    }

    /// Something that must be so, and has been looked at.
    pub(super) fn claim(&mut self, holds: bool, text: &str) -> Result<()> {
        self.note(holds, text);
        let (style, mark) = mark(holds);
        let mut lines = wrap(text, WIDTH - MARGIN - 2).into_iter();
        writeln!(self.out, "   {style}{mark} {}{style:#}", lines.next().unwrap_or_default())?;
        lines.try_for_each(|line| writeln!(self.out, "     {style}{line}{style:#}"))
    }

    /// The heads of what [`Show::attack`] shows.
    pub(super) fn attacks(&mut self) -> Result<()> {
        self.row(' ', PLAIN, ["the middle …", "refused by", "with", "honest call"])
    }

    /// An attack, what came of it, and whether an honest call works after it.
    pub(super) fn attack(&mut self, what: &str, outcome: &Outcome) -> Result<()> {
        let Outcome { refused, by, with, after } = outcome;
        self.note(*refused, &format!("the middle {what}, which the {by} refuses ({with})"));
        self.note(*after, &format!("the middle {what}, and an honest call after that works"));
        let (style, mark) = mark(*refused && *after);
        let by = if *refused { by } else { "" };
        self.row(mark, style, [what, by, with, if *after { "works" } else { "FAILS" }])
    }

    /// Ends with the sum. Whether every claim held.
    pub(super) fn end(mut self) -> Result<bool> {
        let (all, broken) = (self.claims, self.broken.len());
        if broken == 0 {
            writeln!(self.out, "\n{GOOD}All {all} claims hold.{GOOD:#}")?;
        } else {
            writeln!(self.out, "\n{BAD}Of {all} claims, {broken} do not hold:{BAD:#}")?;
            for claim in &self.broken {
                for (i, line) in wrap(claim, WIDTH - MARGIN - 2).iter().enumerate() {
                    writeln!(self.out, "   {BAD}{}{BAD:#} {line}", if i == 0 { "✗" } else { " " })?;
                }
            }
        }
        self.out.flush()?;
        Ok(broken == 0)
    }

    fn note(&mut self, holds: bool, claim: &str) {
        self.claims += 1;
        if !holds {
            self.broken.push(claim.to_owned());
        }
    }

    fn row(&mut self, mark: char, style: Style, [what, by, with, after]: [&str; 4]) -> Result<()> {
        let with = with.split(':').next().unwrap_or_default().chars().take(20).collect::<String>();
        writeln!(self.out, "   {style}{mark}{style:#} {what:<52}{by:<11}{style}{with:<21}{after}{style:#}")?;
        self.out.flush()
    }

    fn block(&mut self, label: &str, column: usize, style: Style, text: &str) -> Result<()> {
        for (i, line) in wrap(text, WIDTH - MARGIN - column).iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            writeln!(self.out, "   {label:<column$}{style}{line}{style:#}")?;
        }
        self.out.flush()
    }
}

/// What came of an attack.
pub(super) struct Outcome {
    pub(super) refused: bool,
    pub(super) by: &'static str,
    pub(super) with: String,
    pub(super) after: bool,
}

fn mark(holds: bool) -> (Style, char) {
    if holds { (GOOD, '✓') } else { (BAD, '✗') }
}

/// `text` in lines of at most `width` columns, broken after a space or a comma where there is one, but never
/// at a no-break space.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some((limit, _)) = rest.char_indices().nth(width) {
        let at = rest[..limit].rfind([' ', ',']).map_or(limit, |at| at + 1);
        lines.push(rest[..at].trim_end().replace(NO_BREAK, " "));
        rest = &rest[at..];
    }
    lines.push(rest.replace(NO_BREAK, " "));
    lines
}

/// `text` with every run of more than 16 hex digits cut to 10 and `…`.
pub(super) fn abridged(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (shown, more) = if run > 16 { (10, "…") } else { (run, "") };
        out.push_str(&rest[..shown]);
        out.push_str(more);
        rest = &rest[run..];
        let other = rest.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(rest.len());
        out.push_str(&rest[..other]);
        rest = &rest[other..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_where_they_can_be() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("{\"a\":1,\"b\":2}", 8), ["{\"a\":1,", "\"b\":2}"]);
        assert_eq!(wrap("……………", 2), ["……", "……", "…"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("one two\u{a0}three", 10), ["one", "two three"]);
    }

    #[test]
    fn only_long_hex_is_abridged() {
        let id = "00112233445566778899aabbccddeeff";
        assert_eq!(
            abridged(&format!("{{\"session\":\"{id}\",\"stream\":7}}")),
            "{\"session\":\"0011223344…\",\"stream\":7}"
        );
        assert_eq!(abridged("facade"), "facade");
    }

    #[test]
    fn one_broken_claim_breaks_the_whole() -> Result<()> {
        let mut out = Vec::new();
        let mut show = Show::new(&mut out);
        show.claim(true, "water is wet")?;
        show.claim(false, "fire is cold")?;
        assert!(!show.end()?);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("Of 2 claims, 1 do not hold:") && text.ends_with("fire is cold\n"));
        let mut show = Show::new(Vec::new());
        show.claim(true, "water is wet")?;
        assert!(show.end()?);
        Ok(())
    }
}
