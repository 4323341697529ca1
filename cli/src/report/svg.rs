//! Charts as SVG text whose colours come from the page: series `k` has the classes `stroke-k` and `fill-k`, text and
//! axes `fill-ink`, `stroke-axis` and `stroke-grid`, so that one chart reads well in light and dark.

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use crate::error::Error;

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// Which of the page's colours, from 1.
    pub(crate) color: u8,
    /// The points, by increasing x.
    pub(crate) points: Vec<(f64, f64)>,
    /// Connect the points.
    pub(crate) line: bool,
    /// Mark the points.
    pub(crate) marks: bool,
}

/// What a chart shows; y is logarithmic when `log` is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chart {
    /// Text under the x axis.
    pub(crate) x_label: String,
    /// Text beside the y axis.
    pub(crate) y_label: String,
    /// Whether y is logarithmic.
    pub(crate) log: bool,
    /// Begin the y axis at 0 (only without `log`).
    pub(crate) from_zero: bool,
    /// The lines.
    pub(crate) series: Vec<Series>,
    /// Width and height in CSS pixels.
    pub(crate) size: (u32, u32),
}

/// Colours that stand for CSS classes until the text is made; no plot uses them as colours.
const INK: RGBColor = RGBColor(1, 2, 3);
const AXIS: RGBColor = RGBColor(1, 2, 4);
const GRID: RGBColor = RGBColor(1, 2, 5);
/// Series `k` is `RGBColor(9, 9, k)`.
const SERIES: u8 = 9;
const FONT: &str = "system-ui, sans-serif";

impl Chart {
    /// The chart as an `<svg>` element; empty text when there is no point to show.
    pub(crate) fn render(&self) -> Result<String, Error> {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|p| self.shown(p));
        let Some((x, y)) = ranges(points().copied()) else { return Ok(String::new()) };
        let mut text = String::new();
        let drawn = {
            let area = SVGBackend::with_string(&mut text, self.size).into_drawing_area();
            let result = if self.log {
                let low = 10_f64.powf((y.0.log10() - 0.05).floor().max(y.0.log10() - 0.4));
                self.draw(&area, x, (low..y.1 * 1.25).log_scale())
            } else {
                let low = if self.from_zero { 0.0 } else { y.0 };
                self.draw(&area, x, low..(y.1 * 1.08).max(low + f64::MIN_POSITIVE))
            };
            result.and_then(|()| area.present().map_err(|error| error.to_string()))
        };
        drawn.map_err(|reason| Error::Machine { what: "drawing a chart".to_owned(), reason })?;
        Ok(with_classes(&text, self.size))
    }

    /// Whether a point can be shown on these axes.
    fn shown(&self, &(x, y): &(f64, f64)) -> bool {
        x.is_finite() && y.is_finite() && (!self.log || y > 0.0)
    }

    fn draw<Y>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        (from, to): (f64, f64),
        y: Y,
    ) -> Result<(), String>
    where
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let fail = |error: DrawingAreaErrorKind<_>| format!("{error}");
        let pad = (to - from) * 0.03;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(14)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(from - pad..to + pad, y)
            .map_err(fail)?;
        let label = (FONT, 12).into_font().color(&INK);
        let log = self.log;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_labels(8)
            .y_labels(6)
            .x_label_formatter(&|x| plain(*x))
            .y_label_formatter(&|y| if log { significant(*y) } else { plain(*y) })
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .draw()
            .map_err(fail)?;
        for series in &self.series {
            let color = RGBColor(SERIES, SERIES, series.color);
            let points = || series.points.iter().filter(|point| self.shown(point)).copied();
            if series.line {
                chart.draw_series(LineSeries::new(points(), color.stroke_width(2))).map_err(fail)?;
            }
            if series.marks {
                chart
                    .draw_series(points().map(|point| Circle::new(point, 3, color.filled())))
                    .map_err(fail)?;
            }
        }
        Ok(())
    }
}

/// Smallest and largest x and y, made a little wider where they coincide.
fn ranges(points: impl Iterator<Item = (f64, f64)>) -> Option<((f64, f64), (f64, f64))> {
    let mut all: Option<((f64, f64), (f64, f64))> = None;
    for (x, y) in points {
        let ((x0, x1), (y0, y1)) = all.unwrap_or(((x, x), (y, y)));
        all = Some(((x0.min(x), x1.max(x)), (y0.min(y), y1.max(y))));
    }
    let ((x0, x1), (y0, y1)) = all?;
    let x = if x0 < x1 { (x0, x1) } else { (x0 - 0.5, x1 + 0.5) };
    let y = if y0 < y1 { (y0, y1) } else { (y0 * 0.9, y1 * 1.1) };
    Some((x, y))
}

/// A number without needless digits.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A number of a logarithmic axis.
fn significant(value: f64) -> String {
    if value >= 0.001 { plain(value) } else { format!("{value:.0e}") }
}

/// Sentinel colours become classes, and the size becomes a view box, so that the page decides both.
fn with_classes(svg: &str, (width, height): (u32, u32)) -> String {
    let hex = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
    let mut text = svg
        .replacen(&format!("width=\"{width}\" height=\"{height}\" "), "", 1)
        .replace(&format!("fill=\"{}\"", hex(INK)), "class=\"fill-ink\"")
        .replace(&format!("stroke=\"{}\"", hex(AXIS)), "class=\"stroke-axis\"")
        .replace(&format!("stroke=\"{}\"", hex(GRID)), "class=\"stroke-grid\"");
    for series in 1..=6 {
        let color = hex(RGBColor(SERIES, SERIES, series));
        text = text
            .replace(&format!("fill=\"{color}\""), &format!("class=\"fill-{series}\""))
            .replace(&format!("stroke=\"{color}\""), &format!("class=\"stroke-{series}\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_classes_and_nothing_is_fetched() {
        let chart = Chart {
            x_label: "bits".to_owned(),
            y_label: "error".to_owned(),
            log: true,
            series: vec![Series { color: 2, points: vec![(2.0, 0.5), (4.0, 0.1)], line: true, marks: true }],
            size: (400, 300),
            ..Chart::default()
        };
        let svg = chart.render().expect("draws");
        for class in ["stroke-2", "fill-2", "fill-ink", "stroke-axis", "stroke-grid"] {
            assert!(svg.contains(&format!("class=\"{class}\"")), "{class}: {svg}");
        }
        assert!(!svg.contains("=\"#0"), "a sentinel colour is left: {svg}");
        assert!(svg.contains("viewBox=\"0 0 400 300\"") && !svg.contains("width=\"400\""));
    }

    #[test]
    fn hopeless_data_draw_nothing_or_something_but_do_not_fail() {
        let render = |log, points: &[(f64, f64)]| {
            let series = vec![Series { color: 1, points: points.to_vec(), line: true, marks: true }];
            Chart { log, series, size: (300, 200), ..Chart::default() }.render().expect("draws")
        };
        for log in [false, true] {
            assert_eq!(render(log, &[]), "");
            assert_eq!(render(log, &[(f64::NAN, 1.0), (1.0, f64::INFINITY)]), "");
            assert!(!render(log, &[(1.0, 1.0)]).is_empty());
        }
        assert_eq!(render(true, &[(1.0, 0.0)]), "");
        assert!(!render(false, &[(1.0, 0.0)]).is_empty());
    }
}
