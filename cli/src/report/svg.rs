//! Charts as SVG text whose colours come from the page: series `k` has the classes `stroke-k` and `fill-k`, text and
//! axes `fill-ink`, `stroke-axis` and `stroke-grid`, so that one chart reads well in light and dark.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

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
    /// Text under the middle of the line; none when empty.
    pub(crate) label: String,
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
            let drawn = self.draw(&area, x, self.y_range(y));
            drawn.and_then(|()| area.present().map_err(|error| error.to_string()))
        };
        drawn.map_err(|reason| Error::Machine { what: "drawing a chart".to_owned(), reason })?;
        Ok(with_classes(&text, self.size))
    }

    /// Whether a point can be shown on these axes.
    fn shown(&self, &(x, y): &(f64, f64)) -> bool {
        x.is_finite() && y.is_finite() && (!self.log || y > 0.0)
    }

    /// Where a value stands on the y axis, which is linear to the plotter.
    fn place(&self, y: f64) -> f64 {
        if self.log { y.log10() } else { y }
    }

    /// The ends of the y axis, with some room.
    fn y_range(&self, (low, high): (f64, f64)) -> (f64, f64) {
        let low = if self.from_zero && !self.log { 0.0 } else { self.place(low) };
        let high = self.place(high);
        let room = ((high - low) * 0.06).max(f64::MIN_POSITIVE);
        (if self.log { low - room } else { low }, high + room)
    }

    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        (from, to): (f64, f64),
        (low, high): (f64, f64),
    ) -> Result<(), String> {
        let y = Axis { linear: (low..high).into(), log: self.log };
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
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_labels(usize::try_from(self.size.0 / 60).map_or(8, |labels| labels.clamp(4, 12)))
            .y_labels(6)
            .x_label_formatter(&|x| plain(*x))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .draw()
            .map_err(fail)?;
        for series in &self.series {
            let color = RGBColor(SERIES, SERIES, series.color);
            let shown = series.points.iter().filter(|point| self.shown(point));
            let points: Vec<(f64, f64)> = shown.map(|&(x, y)| (x, self.place(y))).collect();
            if series.line {
                let line = LineSeries::new(points.iter().copied(), color.stroke_width(2));
                chart.draw_series(line).map_err(fail)?;
            }
            if series.marks {
                let mark = |&point: &(f64, f64)| Circle::new(point, 3, color.filled());
                chart.draw_series(points.iter().map(mark)).map_err(fail)?;
            }
            if let (Some(first), Some(last), false) = (points.first(), points.last(), series.label.is_empty())
            {
                let middle = ((first.0 + last.0) / 2.0, (first.1 + last.1) / 2.0);
                let style = (FONT, 12).into_font().color(&color).pos(Pos::new(HPos::Right, VPos::Top));
                let label = EmptyElement::at(middle) + Text::new(series.label.clone(), (-6, 4), style);
                chart.draw_series(std::iter::once(label)).map_err(fail)?;
            }
        }
        Ok(())
    }
}

/// A y axis that is linear to the plotter; when it shows logarithms, its lines and labels are those of the values.
struct Axis {
    linear: RangedCoordf64,
    log: bool,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.linear.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if self.log { ticks(self.linear.range()) } else { self.linear.key_points(hint) }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.linear.range()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        plain(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        if self.log { significant(10_f64.powf(*value)) } else { plain(*value) }
    }
}

/// Logarithms of the values that get a line and a label: 1, 2 and 5 times powers of ten, or the powers alone when
/// there are many.
fn ticks(range: std::ops::Range<f64>) -> Vec<f64> {
    #[expect(clippy::cast_possible_truncation, reason = "exponents of finite floats")]
    let (low, high) = (range.start.floor() as i32, range.end.ceil() as i32);
    let steps: &[f64] = if range.end - range.start < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = usize::try_from((high - low) / 8 + 1).unwrap_or(1);
    (low..=high)
        .step_by(every)
        .flat_map(|exponent| steps.iter().map(move |step| f64::from(exponent) + step.log10()))
        .filter(|tick| range.contains(tick))
        .collect()
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

/// A number of a logarithmic axis: one digit that matters.
fn significant(value: f64) -> String {
    if (0.0009..1e6).contains(&value) { plain(value) } else { format!("{value:.0e}") }
}

/// Sentinel colours become classes, and the size becomes a view box, so that the page decides both.
fn with_classes(svg: &str, (width, height): (u32, u32)) -> String {
    let hex = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
    let mut text = svg
        .replacen(
            &format!("width=\"{width}\" height=\"{height}\" "),
            &format!("style=\"min-width:{}px\" ", width * 3 / 4),
            1,
        )
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
            series: vec![Series {
                color: 2,
                points: vec![(2.0, 0.5), (4.0, 0.1)],
                line: true,
                marks: true,
                label: "a < b".to_owned(),
            }],
            size: (400, 300),
            ..Chart::default()
        };
        let svg = chart.render().expect("draws");
        for class in ["stroke-2", "fill-2", "fill-ink", "stroke-axis", "stroke-grid"] {
            assert!(svg.contains(&format!("class=\"{class}\"")), "{class}: {svg}");
        }
        assert!(svg.contains("a &lt; b"), "the label is text: {svg}");
        assert!(!svg.contains("=\"#0"), "a sentinel colour is left: {svg}");
        assert!(svg.contains("viewBox=\"0 0 400 300\"") && !svg.contains("width=\"400\""));
    }

    #[test]
    fn hopeless_data_draw_nothing_or_something_but_do_not_fail() {
        let render = |log, points: &[(f64, f64)]| {
            let series = vec![Series {
                color: 1,
                points: points.to_vec(),
                line: true,
                marks: true,
                label: "a line".to_owned(),
            }];
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
