//! What is measured in rounds.

/// How many in a second, round by round.
#[derive(Default)]
pub(crate) struct Rates(Vec<f64>);

impl Rates {
    pub(crate) fn push(&mut self, rate: f64) {
        self.0.push(rate);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut rates = self.0.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }

    /// Half of what lies between the slowest and the fastest round, of the median.
    fn spread(&self) -> f64 {
        let (least, most) =
            self.0.iter().fold((f64::MAX, 0_f64), |(least, most), rate| (least.min(*rate), most.max(*rate)));
        (most - least) / 2.0 / self.median()
    }

    /// The median, its ratio to that of others, and the spread.
    pub(crate) fn beside(&self, others: &Rates) -> String {
        let (median, spread) = (self.median(), self.spread() * 100.0);
        format!("{median:.0} ({:.2} ±{spread:.0} %)", median / others.median())
    }
}
