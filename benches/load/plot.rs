//! Requests per second against the number in flight.

use plotters::prelude::*;
use tower_seal::config::{Backend, Encoding};

use crate::{
    Table,
    modes::{Mode, Signing},
};

/// What is drawn: the name of a way, how it is called there, and its colour.
fn lines() -> [(String, &'static str, RGBColor); 5] {
    let mode =
        |signing| Mode { encoding: Encoding::Binary, signing, backend: Backend::default() }.to_string();
    [
        ("plain".to_owned(), "plain", RGBColor(120, 120, 120)),
        ("mTLS".to_owned(), "mTLS", RGBColor(230, 150, 30)),
        (mode(Signing::Unsigned), "sealed, unsigned", RGBColor(30, 110, 200)),
        (mode(Signing::Together), "sealed, signed in batches", RGBColor(30, 150, 80)),
        (mode(Signing::Alone), "sealed, signed one by one", RGBColor(190, 60, 60)),
    ]
}

pub(crate) fn draw(table: &Table, in_flight: &[usize], file: &str) {
    let lines = lines();
    let find = |wanted: &str| table.rows.iter().find(|row| row.name == wanted).map(|row| &row.rates);
    let rows: Vec<_> = lines.iter().filter_map(|line| find(&line.0).map(|rates| (line, rates))).collect();
    let most = rows.iter().flat_map(|(_, rates)| rates.iter()).map(crate::Rates::median).fold(0.0, f64::max);
    let area = SVGBackend::new(file, (760, 420)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let title = format!("requests per second over HTTP/1.1, {} bytes each way", table.size);
    let last = (in_flight.len() as f64 - 1.0).max(1.0);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..last, 0.0..most * 1.1)
        .unwrap();
    chart
        .configure_mesh()
        .x_labels(in_flight.len())
        .x_label_formatter(&|at| in_flight.get(at.round() as usize).map_or(String::new(), usize::to_string))
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .x_desc("requests in flight")
        .disable_x_mesh()
        .draw()
        .unwrap();
    for ((_, name, colour), rates) in rows {
        let points = || rates.iter().enumerate().map(|(at, rates)| (at as f64, rates.median()));
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))
            .unwrap()
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled()))).unwrap();
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .unwrap();
    area.present().unwrap();
}
