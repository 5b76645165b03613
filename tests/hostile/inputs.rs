//! What hostile peers write, in at most 1 KiB.

pub(crate) const KIB: usize = 1 << 10;

/// Numbers that are there again when the test is run with the same seed: that of `HOSTILE_SEED`, or a new one.
pub(crate) struct Seeded {
    pub(crate) seed: u64,
    state: u64,
}

impl Seeded {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("HOSTILE_SEED").map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|_| getrandom::u64().unwrap());
        Seeded { seed, state: seed | 1 }
    }

    /// Below `end`: xorshift64* (Vigna).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        ((self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize) % end.max(1)
    }
}

/// Lengths that are far above what comes, as each format writes them.
const LENGTHS: [&[u8]; 12] = [
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x00\x10\x00\x00",
    b"\x00\x0f\xff\xff",
    b"\x00\x00\xff\xff",
    b"\x00\x00\x40\x00",
    // Variable-length integers of RFC 9000.
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xbf\xff\xff\xff",
    b"\x80\x0f\xff\xff",
    b"\x7f\xff",
    // A WebSocket's, with a mask.
    b"\x81\xff\x00\x00\x00\x00\x00\x0f\xff\xff\0\0\0\0",
    b"\x82\xfe\xff\xff\0\0\0\0",
];

fn filled(mut start: Vec<u8>, with: &[u8]) -> Vec<u8> {
    start.extend(with.iter().cycle().take(KIB.saturating_sub(start.len())));
    start.truncate(KIB);
    start
}

/// Made without regard to any genuine message, but for what it begins with.
pub(crate) fn made(genuine: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for keep in [0, 1, 2, 4, 5, 8, 40, genuine.len() / 2, genuine.len()] {
        let start = &genuine[..keep.min(genuine.len())];
        for length in LENGTHS {
            for fill in [&[0][..], b"a", &[0xff]] {
                all.push(filled([start, length].concat(), fill));
            }
        }
    }
    let many_names: String = (0..200).map(|name| format!("\"{name:x}\":0,")).collect();
    for (start, repeated) in [
        ("{\"a\":", "{\"a\":"),
        ("{\"a\":", "["),
        ("{\"type\":\"encrypted\",\"path\":{\"siblings\":[", "\"\","),
        ("{\"type\":\"encrypted\",\"ciphertext\":\"", "00"),
        ("{\"type\":\"key_exchange\",\"suites\":[", "\"\","),
        ("{\"type\":\"key_exchange\",\"extensions\":{", &many_names),
        ("{\"type\":\"error\",\"message\":\"", "\\u0041"),
        ("{", &many_names),
        ("{\"", "\\n"),
        ("[", "1,"),
        ("[", "{},"),
        ("[", "["),
        ("[", "{\"id\":1},"),
        ("", "\n"),
        ("", "\r\n"),
        ("", " "),
        ("", "#\n"),
        ("", "a b\n"),
        ("", "\u{feff}"),
        ("-----BEGIN PRIVATE KEY-----\n", "MC4C"),
        ("-----BEGIN PRIVATE KEY-----\n", "\n"),
        ("", "-----BEGIN PRIVATE KEY-----\n"),
        ("\0\u{4}POST\u{4}http\u{b}example.com\u{1}/", "\u{1}a\0"),
        ("\0\u{4}POST\u{4}http\u{b}example.com\u{1}/@@", "\u{1}a\0"),
    ] {
        let whole = filled(start.into(), repeated.as_bytes());

        all.push([&whole[..KIB - 1], b"\n"].concat());
        all.push(whole);
    }
    all
}

/// One or several changes at random to something genuine.
pub(crate) fn mutated(genuine: &[u8], rng: &mut Seeded) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(7) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.below(256) as u8),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, LENGTHS[rng.below(LENGTHS.len())].iter().copied())),
            4 => bytes.iter_mut().skip(at).zip(LENGTHS[rng.below(10)]).for_each(|(byte, new)| *byte = *new),
            5 => {
                let part = bytes[at..].to_vec();
                let to = rng.below(bytes.len());
                drop(bytes.splice(to..to, part));
            }
            _ => {
                let end = at + rng.below(bytes.len() - at);
                drop(bytes.drain(at..end));
            }
        }
    }
    bytes.truncate(KIB);
    bytes
}
