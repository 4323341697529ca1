//! Pages of plain building blocks: one self-contained file, no network, light and dark.
//!
//! A page is data ([`Page`]); what a command knows goes into it in the command's own module.

use std::fmt::Write as _;

/// A whole page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// Heading and window title.
    pub(crate) title: String,
    /// One sentence under the heading.
    pub(crate) lead: String,
    /// What follows, from top to bottom.
    pub(crate) blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// Large numbers side by side.
    Facts(Vec<Fact>),
    /// A section with a heading and a paragraph; more blocks follow.
    Heading {
        /// The heading.
        title: String,
        /// What the reader sees below, in a sentence or two.
        text: String,
    },
    /// Bars of one scale, each made of segments.
    Bars(Vec<Bar>),
    /// Colours and what they stand for.
    Legend(Vec<(u8, String)>),
    /// Charts side by side, each with a caption.
    Charts(Vec<Figure>),
    /// A table; wide ones scroll.
    Table(Table),
    /// Something that is only shown when asked for.
    Details {
        /// What it is.
        summary: String,
        /// Its lines.
        lines: Vec<String>,
    },
}

/// A large number.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// What it is.
    pub(crate) label: String,
    /// The number.
    pub(crate) value: String,
    /// What it compares to.
    pub(crate) note: String,
}

/// A bar of segments.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// What it is.
    pub(crate) label: String,
    /// Lengths, in any common unit, with colour and text.
    pub(crate) segments: Vec<(f64, u8, String)>,
}

/// A chart with its caption.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// An `<svg>` element.
    pub(crate) svg: String,
    /// What it shows.
    pub(crate) title: String,
    /// Smaller print.
    pub(crate) note: String,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Column headings.
    pub(crate) headings: Vec<String>,
    /// How many columns from the left hold text; the others are numbers.
    pub(crate) left: usize,
    /// Cells.
    pub(crate) rows: Vec<Vec<String>>,
    /// A last column of bars, one value a row.
    pub(crate) bars: Vec<f64>,
    /// A row of totals.
    pub(crate) total: Vec<String>,
}

/// The page's style. Charts take their colours from it through classes.
const STYLE: &str = include_str!("page.css");

impl Page {
    /// The page as HTML.
    pub(crate) fn render(&self) -> String {
        let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        out.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
        let title = escape(&self.title);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>");
        let _ = writeln!(out, "<header><h1>{title}</h1>\n<p>{}</p></header>", escape(&self.lead));
        for block in &self.blocks {
            block.render(&mut out);
        }
        let version = crate::container::record::RANKBIT_VERSION;
        let _ = writeln!(out, "<footer>rankbit {version}</footer>\n</main>\n</body>\n</html>");
        out
    }
}

impl Block {
    fn render(&self, out: &mut String) {
        match self {
            Self::Facts(facts) => {
                out.push_str("<dl class=\"facts\">\n");
                for Fact { label, value, note } in facts {
                    let (label, value, note) = (escape(label), escape(value), escape(note));
                    let _ = writeln!(out, "<div><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>");
                }
                out.push_str("</dl>\n");
            }
            Self::Heading { title, text } => {
                let _ = writeln!(out, "<h2>{}</h2>\n<p>{}</p>", escape(title), escape(text));
            }
            Self::Bars(bars) => render_bars(bars, out),
            Self::Legend(entries) => {
                out.push_str("<ul class=\"legend\">\n");
                for (color, label) in entries {
                    let line = format!(
                        "<svg viewBox=\"0 0 28 8\"><path class=\"stroke-{color}\" d=\"M0 4H28\"/></svg>"
                    );
                    let _ = writeln!(out, "<li>{line}{}</li>", escape(label));
                }
                out.push_str("</ul>\n");
            }
            Self::Charts(figures) => {
                out.push_str("<div class=\"charts\">\n");
                for Figure { svg, title, note } in figures {
                    // Names of tensors are long: they may break after a dot.
                    let (title, note) = (escape(title).replace('.', ".<wbr>"), escape(note));
                    let _ = writeln!(
                        out,
                        "<figure><figcaption><b>{title}</b> {note}</figcaption>\n{svg}</figure>"
                    );
                }
                out.push_str("</div>\n");
            }
            Self::Table(table) => table.render(out),
            Self::Details { summary, lines } => {
                let _ = writeln!(out, "<details><summary>{}</summary>\n<pre>", escape(summary));
                for line in lines {
                    let _ = writeln!(out, "{}", escape(line));
                }
                out.push_str("</pre></details>\n");
            }
        }
    }
}

fn render_bars(bars: &[Bar], out: &mut String) {
    let length = |bar: &Bar| bar.segments.iter().map(|(length, ..)| length).sum::<f64>();
    let longest = bars.iter().map(length).fold(f64::MIN_POSITIVE, f64::max);
    out.push_str("<div class=\"bars\">\n");
    for bar in bars {
        let _ = write!(out, "<span>{}</span><div>", escape(&bar.label));
        for (length, color, text) in &bar.segments {
            let (percent, text) = (100.0 * length / longest, escape(text));
            let _ =
                write!(out, "<i class=\"back-{color}\" style=\"width:{percent:.2}%\" title=\"{text}\"></i>");
        }
        let texts: Vec<String> = bar.segments.iter().map(|(.., text)| escape(text)).collect();
        let _ = writeln!(out, "</div><small>{}</small>", texts.join(" + "));
    }
    out.push_str("</div>\n");
}

impl Table {
    fn render(&self, out: &mut String) {
        let longest =
            self.bars.iter().copied().filter(|bar| bar.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
        let cells = |row: &[String], tag: &str| -> String {
            let cell = |(i, text): (usize, &String)| {
                let class = if i < self.left { "" } else { " class=\"n\"" };
                format!("<{tag}{class}>{}</{tag}>", escape(text))
            };
            row.iter().enumerate().map(cell).collect()
        };
        out.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
        out.push_str(&cells(&self.headings, "th"));
        if !self.bars.is_empty() {
            out.push_str("<th></th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for (i, row) in self.rows.iter().enumerate() {
            let _ = write!(out, "<tr>{}", cells(row, "td"));
            if let Some(bar) = self.bars.get(i) {
                let percent = (100.0 * bar / longest).clamp(0.0, 100.0);
                let _ = write!(out, "<td class=\"bar\"><i style=\"width:{percent:.1}%\"></i></td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n");
        if !self.total.is_empty() {
            let bar = if self.bars.is_empty() { "" } else { "<td></td>" };
            let _ = writeln!(out, "<tfoot><tr>{}{bar}</tr></tfoot>", cells(&self.total, "td"));
        }
        out.push_str("</table></div>\n");
    }
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_cannot_become_markup() {
        let evil = "<script>alert(\"x\")</script>&'".to_owned();
        let page = Page {
            title: evil.clone(),
            lead: evil.clone(),
            blocks: vec![
                Block::Facts(vec![Fact { label: evil.clone(), value: evil.clone(), note: evil.clone() }]),
                Block::Heading { title: evil.clone(), text: evil.clone() },
                Block::Bars(vec![Bar { label: evil.clone(), segments: vec![(1.0, 1, evil.clone())] }]),
                Block::Legend(vec![(1, evil.clone())]),
                Block::Charts(vec![Figure { svg: String::new(), title: evil.clone(), note: evil.clone() }]),
                Block::Table(Table {
                    headings: vec![evil.clone()],
                    left: 1,
                    rows: vec![vec![evil.clone()]],
                    bars: vec![f64::NAN],
                    total: vec![evil.clone()],
                }),
                Block::Details { summary: evil.clone(), lines: vec![evil] },
            ],
        };
        let html = page.render();
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("http:") && !html.contains("https:"), "a page fetches nothing");
    }
}
