//! What is measured in rounds.

/// How many in a second, round by round.
#[derive(Default)]
pub(crate) struct Rates {
    rounds: Vec<f64>,
    /// Records signed, and signatures.
    signed: (u64, u64),
}

impl Rates {
    pub(crate) fn push(&mut self, rate: f64) {
        self.rounds.push(rate);
    }

    /// What has been signed in the meantime, of two counts of records and signatures.
    pub(crate) fn signed(&mut self, before: (u64, u64), after: (u64, u64)) {
        self.signed = (after.0 - before.0, after.1 - before.1);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut rates = self.rounds.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }

    /// Half of what lies between the slowest and the fastest round, of the median.
    fn spread(&self) -> f64 {
        let (least, most) = self
            .rounds
            .iter()
            .fold((f64::MAX, 0_f64), |(least, most), rate| (least.min(*rate), most.max(*rate)));
        (most - least) / 2.0 / self.median()
    }

    /// The median, its ratio to that of others, and the spread; where more than a few records were signed, how many
    /// by each signature.
    pub(crate) fn beside(&self, others: &Rates) -> String {
        let (median, spread) = (self.median(), self.spread() * 100.0);
        let batch = match self.signed {
            (records, signatures) if records > 100 => {
                format!(", {:.1} a signature", records as f64 / signatures as f64)
            }
            _ => String::new(),
        };
        format!("{median:.0} ({:.2} ±{spread:.0} %{batch})", median / others.median())
    }
}
