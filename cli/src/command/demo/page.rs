//! The demo's page.

use super::measure::{Bench, Curve, Row};
use super::{cells, headings};
use crate::error::Error;
use crate::report::html::{Block, Fact, Figure, Page, Table};
use crate::report::limit;
use crate::report::svg::{Chart, Series};

/// The colour of the table's rows in the chart.
const ROWS: u8 = 5;

/// The page as HTML.
pub(crate) fn page(bench: &Bench<'_>, rows: &[Row], curves: &[Curve]) -> Result<String, Error> {
    let names: Vec<&str> = bench.weights.iter().map(|w| w.name.as_str()).collect();
    let table = Table {
        headings: headings(bench).into_iter().map(str::to_owned).collect(),
        left: 2,
        rows: rows.iter().map(|row| cells(bench, row)).collect(),
        // Without a quantized term the error is of another order and would flatten all other bars.
        bars: rows.iter().map(|row| if row.bits < 2.0 { f64::NAN } else { row.error }).collect(),
        total: Vec::new(),
    };
    let mut legend: Vec<(u8, String)> =
        (1..).zip(curves).map(|(color, curve)| (color, curve.label.to_owned())).collect();
    legend.push((ROWS, "the rows of the table below".to_owned()));
    legend.push((limit::COLOR, limit::LEGEND.to_owned()));
    let page = Page {
        title: "rankbit demo".to_owned(),
        lead: "Every method on three real matrices of a sentence encoder: what it costs in bits, what it loses.".to_owned(),
        blocks: vec![
            Block::Facts(facts(rows)),
            Block::Heading {
                title: "Error against bits".to_owned(),
                text: "Mean relative error of the three matrices with groups of 64; lower left is better. A branch of rank 16 \
                       costs about one bit per weight here. No method stores independent Gaussian weights with less \
                       error than 2⁻ᵇ at b bits; what lies between a curve and that line is still to be had."
                    .to_owned(),
            },
            Block::Legend(legend),
            Block::Charts(vec![chart(curves, rows)?]),
            Block::Heading { title: "Side by side".to_owned(), text: bench.note() },
            Block::Table(table),
            Block::Details {
                summary: "The matrices".to_owned(),
                lines: names.into_iter().map(str::to_owned).collect(),
            },
        ],
    };
    Ok(page.render())
}

/// The best of the table in three numbers.
fn facts(rows: &[Row]) -> Vec<Fact> {
    let find = |method: &str, format: &str| rows.iter().find(|r| r.method == method && r.format == format);
    let mut facts = Vec::new();
    if let Some(rtn) = find("rtn", "uint4") {
        facts.push(Fact {
            label: "round to nearest, uint4".to_owned(),
            value: format!("{:.2} %", 100.0 * rtn.error),
            note: format!("relative error at {:.2} bits", rtn.bits),
        });
        if let Some(svdquant) = find("svdquant", "uint4") {
            facts.push(Fact {
                label: "SVDQuant, uint4".to_owned(),
                value: format!("{:.2} %", 100.0 * svdquant.error),
                note: format!(
                    "{:.0} % less error for {:.2} bits more",
                    100.0 * (1.0 - svdquant.error / rtn.error),
                    svdquant.bits - rtn.bits
                ),
            });
        }
        facts.push(Fact {
            label: "size".to_owned(),
            value: format!("{:.1}×", 32.0 / rtn.bits),
            note: "smaller than f32, round to nearest".to_owned(),
        });
    }
    facts
}

/// The curves, the table's quantized rows as points, and the limit.
fn chart(curves: &[Curve], rows: &[Row]) -> Result<Figure, Error> {
    let mut series: Vec<Series> = (1..)
        .zip(curves)
        .map(|(color, curve)| Series {
            color,
            points: curve.points.clone(),
            line: true,
            marks: true,
            ..Series::default()
        })
        .collect();
    let measured = rows.iter().filter(|row| row.error > 0.0).map(|row| (row.bits, row.error)).collect();
    series.push(Series { color: ROWS, points: measured, marks: true, ..Series::default() });
    let points: Vec<(f64, f64)> = series.iter().flat_map(|series| series.points.iter().copied()).collect();
    series.push(limit::series(points.into_iter()));
    let chart = Chart {
        x_label: "bits per weight".to_owned(),
        y_label: "relative error".to_owned(),
        log: true,
        from_zero: false,
        series,
        size: (760, 380),
    };
    Ok(Figure {
        svg: chart.render()?,
        title: "Relative error".to_owned(),
        note: "against stored bits per weight, logarithmic".to_owned(),
    })
}
