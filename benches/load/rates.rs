//! What is measured in rounds.

/// How many in a second, round by round.
#[derive(Default)]
pub(crate) struct Rates(Vec<f64>);

impl Rates {
    pub(crate) fn push(&mut self, rate: f64) {
        self.0.push(rate);
    }

    pub(crate) fn median(&self) -> f64 {
        self.quartiles()[1]
    }

    fn quartiles(&self) -> [f64; 3] {
        let mut rates = self.0.clone();
        rates.sort_by(f64::total_cmp);
        [1, 2, 3].map(|quarter| rates[rates.len() * quarter / 4])
    }

    /// The median; then the ratio to others, also as a median, with half of what lies between its quartiles. It is taken
    /// round by round, as a machine may be faster in one than in another.
    pub(crate) fn beside(&self, others: &Rates) -> String {
        let ratios = Rates(self.0.iter().zip(&others.0).map(|(rate, other)| rate / other).collect());
        let [first, median, third] = ratios.quartiles();
        format!("{:.0} ({median:.2} ±{:.0} %)", self.median(), (third - first) / 2.0 / median * 100.0)
    }
}
