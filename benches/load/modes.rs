//! What a sealed way can be like.

use std::{fmt, sync::Arc, time::Duration};

use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Limits, Signatures},
    trust::Pinned,
};

#[derive(Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) encoding: Encoding,
    pub(crate) signing: Signing,
    pub(crate) backend: Backend,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    /// No signatures but those that confirm a session.
    Unsigned,
    /// One for each record.
    Alone,
    /// One for what is ready together.
    Together,
}

impl Mode {
    pub(crate) fn all() -> Vec<Mode> {
        let mut all = Vec::new();
        for backend in Backend::ALL.iter().copied() {
            for encoding in [Encoding::Binary, Encoding::Json] {
                for signing in [Signing::Unsigned, Signing::Together, Signing::Alone] {
                    all.push(Mode { encoding, signing, backend });
                }
            }
        }
        all
    }

    /// A server's config and a client's, which trust each other.
    pub(crate) fn configs(self) -> (Config, Config) {
        let (server, client) = (Arc::new(Identity::generate()), Arc::new(Identity::generate()));
        (self.config(&server, &client), self.config(&client, &server))
    }

    fn config(self, own: &Arc<Identity>, other: &Identity) -> Config {
        let mut limits = Limits::default();
        // A connection rests while others are measured, and then nobody answers pings.
        limits.ping = Duration::from_secs(3600);
        if self.signing == Signing::Alone {
            limits.signed_together = 1;
        }
        let signatures =
            if self.signing == Signing::Unsigned { Signatures::Handshake } else { Signatures::Every };
        Config::new(own.clone(), Pinned::new([other.node_id()]))
            .backend(self.backend)
            .encoding(self.encoding)
            .signatures(signatures)
            .limits(limits)
    }
}

/// How many records two sides have signed, and with how many signatures.
#[derive(Clone, Copy, Default)]
pub(crate) struct Signed {
    records: u64,
    signatures: u64,
}

impl Signed {
    /// So far.
    pub(crate) fn by(configs: Option<&(Config, Config)>) -> Self {
        let Some((server, client)) = configs else { return Signed::default() };
        let all = [server, client].map(Config::telemetry);
        Signed {
            records: all.iter().map(|telemetry| telemetry.records_signed()).sum(),
            signatures: all.iter().flat_map(|telemetry| telemetry.batches()).sum(),
        }
    }

    /// Since `before`, where it was more than what confirms sessions: how many by each signature.
    pub(crate) fn since(self, before: Signed) -> String {
        match (self.records - before.records, self.signatures - before.signatures) {
            (records, signatures) if records > 100 => {
                format!(" {:.1} a signature", records as f64 / signatures as f64)
            }
            _ => String::new(),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = if self.encoding == Encoding::Binary { "binary" } else { "json" };
        let signing = match self.signing {
            Signing::Unsigned => "unsigned",
            Signing::Alone => "signed one by one",
            Signing::Together => "signed in batches",
        };
        write!(f, "{encoding}, {signing}, {:?}", self.backend)
    }
}
