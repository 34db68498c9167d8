//! Bars in two parts, side by side in columns, as one picture that stands by itself in a document.

use std::fmt::Write as _;

use super::svg::{escaped, round_numbers, short};

/// Columns of bars, in rows of what is measured. All bars of a row have one scale.
pub(super) struct Bars<'a> {
    pub(super) title: &'a str,
    pub(super) columns: Vec<Column>,
    pub(super) rows: [Row<'a>; 2],
}

/// What the bars stand for.
pub(super) struct Column {
    pub(super) title: String,
    /// Of each bar.
    pub(super) labels: Vec<String>,
}

/// What is measured.
pub(super) struct Row<'a> {
    pub(super) title: &'a str,
    /// What the lower and the upper part of a bar are.
    pub(super) parts: [&'a str; 2],
    /// By column and label: how high the parts are.
    pub(super) bars: Vec<Vec<[f64; 2]>>,
}

/// Of a character of the picture's title and of its other texts, in wide fonts.
const WIDE: f64 = 9.5;
const NARROW: f64 = 7.4;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
/// Room for one bar, wide enough for its texts.
const SLOT: f64 = 58.0;
const BAR: f64 = 34.0;
/// Between columns.
const GAP: f64 = 24.0;
/// Fewer bars don't make a column narrower: its title needs room.
const LEAST_SLOTS: usize = 2;
/// Of a row: in all, and what is above and below its bars.
const ROW: f64 = 276.0;
const HEAD: f64 = 58.0;
const FOOT: f64 = 52.0;
/// The lower and the upper part, in either row.
const COLOURS: [[&str; 2]; 2] = [["#9db4cc", "#2a78d6"], ["#1b9e77", "#a6d9c8"]];
/// On white, whatever the page around is.
const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#333}.title{font-size:15px;font-weight:600}\
    .name{font-size:13px;font-weight:600}.mid{text-anchor:middle}.end{text-anchor:end;fill:#666}\
    .grid{stroke:#e3e3e3}.axis{stroke:#888}";

impl Bars<'_> {
    pub(super) fn render(&self) -> String {
        let room = 2.0 * GAP + self.title.chars().count() as f64 * WIDE;
        let (width, height) = (self.place(self.columns.len()).max(room), TOP + 2.0 * ROW + 8.0);
        let title = escaped(self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\"><title>{title}</title><style>{STYLE}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#fff\"/>\n\
             <text class=\"title\" x=\"{}\" y=\"28\">{title}</text>\n",
            GAP
        );
        for number in 0..self.rows.len() {
            self.row(number, &mut svg);
        }
        svg + "</svg>\n"
    }

    /// The left end of a column; of one past the last, the picture's right end.
    fn place(&self, column: usize) -> f64 {
        self.columns[..column].iter().fold(LEFT, |place, column| place + column.width() + GAP)
    }

    fn row(&self, number: usize, svg: &mut String) {
        let (row, top, colours) = (&self.rows[number], TOP + number as f64 * ROW, COLOURS[number]);
        let (right, bottom) = (self.place(self.columns.len()) - GAP, top + ROW - FOOT);
        let most = row.bars.iter().flatten().map(|[lower, upper]| lower + upper).fold(1.0, f64::max);
        let scale = (ROW - HEAD - FOOT) / (most * 1.12);
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{GAP}\" y=\"{}\">{}</text>",
            top + 16.0,
            escaped(row.title)
        );
        let (mut x, y) = (GAP, top + 26.0);
        for (part, colour) in row.parts.iter().zip(colours) {
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.0}\" y=\"{y}\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                x + 17.0,
                y + 10.0,
                escaped(part)
            );
            x += 17.0 + part.chars().count() as f64 * NARROW + GAP;
        }
        for value in round_numbers((0.0, most * 1.12), 4.0) {
            let y = bottom - value * scale;
            let (class, text) = (if value > 0.0 { "grid" } else { "axis" }, short(value));
            let _ = writeln!(
                svg,
                "<line class=\"{class}\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text class=\"end\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for (number, (column, bars)) in self.columns.iter().zip(&row.bars).enumerate() {
            column.draw(bars, [self.place(number), bottom, scale], colours, svg);
        }
    }
}

impl Column {
    fn width(&self) -> f64 {
        self.labels.len().max(LEAST_SLOTS) as f64 * SLOT
    }

    fn draw(&self, bars: &[[f64; 2]], [left, bottom, scale]: [f64; 3], colours: [&str; 2], svg: &mut String) {
        let middle = left + self.width() / 2.0;
        let first = middle - self.labels.len() as f64 * SLOT / 2.0;
        for (number, (label, parts)) in self.labels.iter().zip(bars).enumerate() {
            let centre = first + (number as f64 + 0.5) * SLOT;
            let mut y = bottom;
            for (part, colour) in parts.iter().zip(colours) {
                let height = part * scale;
                y -= height;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                    centre - BAR / 2.0
                );
            }
            let _ = writeln!(
                svg,
                "<text class=\"mid\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>\
                 <text class=\"mid\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>",
                y - 5.0,
                short(parts[0] + parts[1]),
                bottom + 16.0,
                escaped(label)
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"name mid\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 35.0,
            escaped(&self.title)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bars: &[Vec<[f64; 2]>]) -> String {
        let column = |bars: &Vec<[f64; 2]>| Column {
            title: "some & more".to_owned(),
            labels: (0..bars.len()).map(|number| number.to_string()).collect(),
        };
        let row = |title| Row { title, parts: ["below", "above"], bars: bars.to_vec() };
        Bars { title: "a <b>", columns: bars.iter().map(column).collect(), rows: [row("one"), row("two")] }
            .render()
    }

    /// The numbers of this attribute of all elements that begin so.
    fn numbers(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let value =
            |tag: &str| tag.split_once(&format!(" {attribute}=\""))?.1.split('"').next()?.parse().ok();
        svg.split('<').filter(|tag| tag.starts_with(element)).filter_map(value).collect()
    }

    #[test]
    fn all_bars_and_texts_are_within_the_picture_and_bars_are_as_high_as_their_values() {
        let svg = picture(&[vec![[10.0, 20.0], [30.0, 0.0]], vec![[0.0, 60.0]], vec![[1.0, 1.0]; 6]]);
        let (width, height) = (numbers(&svg, "svg", "width")[0], numbers(&svg, "svg", "height")[0]);
        for element in ["rect", "text", "line"] {
            assert!(numbers(&svg, element, "x").iter().all(|x| (0.0..width).contains(x)), "{svg}");
            assert!(numbers(&svg, element, "y").iter().all(|y| (0.0..height).contains(y)), "{svg}");
        }
        let bars: Vec<_> = svg.lines().filter(|line| line.contains("width=\"34\"")).collect();
        let heights: Vec<_> = bars.iter().map(|bar| numbers(bar, "rect", "height")[0]).collect();
        assert_eq!(heights.len(), 2 * 2 * 9);
        let near = |one: f64, other: f64| (one - other).abs() < 0.2;
        assert!(near(heights[1], 2.0 * heights[0]) && near(heights[5], 6.0 * heights[0]), "{heights:?}");
        assert!(near(heights[3], 0.0) && near(heights[2], heights[5] / 2.0), "{heights:?}");
    }

    #[test]
    fn a_picture_needs_nothing_from_elsewhere_and_escapes_what_it_shows() {
        for svg in [picture(&[vec![[1.0, 2.0]]]), picture(&[]), picture(&[vec![[0.0, 0.0]]])] {
            for outside in ["https:", "href=", "url(", "@import", "<script", "NaN", "inf"] {
                assert!(!svg.contains(outside), "{outside}: {svg}");
            }
            assert_eq!(svg.matches("http:").count(), 1, "the name of the format alone");
            assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>") && !svg.contains("some & more"));
            for tag in ["svg", "text", "title", "style"] {
                assert_eq!(
                    svg.matches(&format!("<{tag}")).count(),
                    svg.matches(&format!("</{tag}>")).count(),
                    "{tag}"
                );
            }
        }
    }
}
