//! Line charts as SVG, drawn by hand: a page that is mailed around must not ask the network for anything.

use std::fmt::Write as _;

/// One chart.
#[derive(Default)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What stands at the axes.
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) lines: Vec<Line<'a>>,
    /// Vertical lines with a text.
    pub(super) marks: Vec<(f64, String)>,
    /// Places on the x axis and their texts; empty for round numbers.
    pub(super) ticks: Vec<(f64, String)>,
    /// Whether the y axis is logarithmic.
    pub(super) is_log: bool,
}

/// One line of a chart.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// Told apart in light and dark, and by most eyes.
const COLOURS: [&str; 6] = ["#2a78d6", "#e8710a", "#1b9e77", "#d03b7a", "#8a63d2", "#8a8a8a"];

/// What a text looks like inside of markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as short as it is still exact enough to be read.
pub(super) fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        small if small < 0.1 => 3,
        small if small < 1.0 => 2,
        small if small < 20.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// From values to places.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    is_log: bool,
}

impl Scale {
    fn of(chart: &Chart<'_>) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let bounds = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
        };
        let mut x = bounds(&mut points().map(|point| point.0));
        let mut y = bounds(&mut points().map(|point| point.1));
        // No point, or all of them above each other.
        if x.0 >= x.1 {
            x = if x.0 == x.1 { (x.0, x.0 + 1.0) } else { (0.0, 1.0) };
        }
        if y.0 > y.1 {
            y = (0.1, 1.0);
        }
        if chart.is_log {
            y = (10_f64.powf(y.0.max(1e-3).log10().floor()), 10_f64.powf(y.1.max(1e-2).log10().ceil()));
        } else {
            y = (0.0, if y.1 > 0.0 { y.1 * 1.08 } else { 1.0 });
        }
        if y.0 >= y.1 {
            y.1 = y.0 * 10.0 + 1.0;
        }
        Self { x, y, is_log: chart.is_log }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.is_log {
            true => (value.max(self.y.0) / self.y.0).log10() / (self.y.1 / self.y.0).log10(),
            false => (value - self.y.0) / (self.y.1 - self.y.0),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn y_ticks(&self) -> Vec<f64> {
        if self.is_log {
            let decades = (self.y.1 / self.y.0).log10().round() as i32;
            return (0..=decades).map(|n| self.y.0 * 10_f64.powi(n)).collect();
        }
        round_numbers(self.y, 5.0)
    }
}

/// About so many, evenly within the bounds.
pub(super) fn round_numbers((low, high): (f64, f64), count: f64) -> Vec<f64> {
    let raw = (high - low) / count;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= raw);
    let step = step.unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|n| n as f64 * step).take_while(|value| *value <= high * 1.000_001).take(50).collect()
}

impl Chart<'_> {
    pub(super) fn render(&self) -> String {
        let scale = Scale::of(self);
        let mut svg = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">",
            escaped(self.title)
        );
        self.axes(&scale, &mut svg);
        for (at, what) in &self.marks {
            let (x, bottom) = (scale.x(*at), HEIGHT - BOTTOM);
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text class=\"mark\" x=\"{:.1}\" y=\"{}\">{}</text>",
                x + 3.0,
                TOP + 10.0,
                escaped(what)
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            self.line(&scale, (number, line), &mut svg);
        }
        svg + "</svg></figure>\n"
    }

    fn axes(&self, scale: &Scale, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in scale.y_ticks() {
            let (y, text) = (scale.y(value), short(value));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text class=\"y\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let numbers =
            || round_numbers(scale.x, 10.0).into_iter().map(|value| (value, short(value))).collect();
        let ticks = if self.ticks.is_empty() { numbers() } else { self.ticks.clone() };
        for (value, text) in ticks.iter().filter(|(value, _)| (scale.x.0..=scale.x.1).contains(value)) {
            let x = scale.x(*value);
            let _ = write!(
                svg,
                "<text class=\"x\" x=\"{x:.1}\" y=\"{}\">{}</text>",
                bottom + 16.0,
                escaped(text)
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\
             <text class=\"x\" x=\"{:.1}\" y=\"{}\">{}</text><text x=\"4\" y=\"{}\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            escaped(self.x),
            TOP - 12.0,
            escaped(self.y)
        );
    }

    fn line(&self, scale: &Scale, (number, line): (usize, &Line<'_>), svg: &mut String) {
        let colour = COLOURS[number % COLOURS.len()];
        let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", scale.x(*x), scale.y(*y));
        let points: Vec<_> = line.points.iter().map(place).collect();
        let before: usize = self.lines[..number].iter().map(|line| line.name.len() * 8 + 34).sum();
        let x = LEFT + 60.0 + before as f64;
        let _ = write!(
            svg,
            "<polyline points=\"{}\" stroke=\"{colour}\"/>\
             <line x1=\"{x}\" y1=\"{}\" x2=\"{}\" y2=\"{1}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            points.join(" "),
            TOP - 16.0,
            x + 14.0,
            x + 18.0,
            TOP - 12.0,
            escaped(line.name)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_axes_are_round_and_short() {
        assert_eq!(round_numbers((0.0, 10.8), 5.0), [0.0, 5.0, 10.0]);
        assert_eq!([0.0, 0.25, 4.0, 12.5, 3500.0].map(short), ["0", "0.25", "4", "12.5", "3500"]);
    }

    #[test]
    fn higher_values_are_higher_up_and_all_are_inside() {
        for is_log in [false, true] {
            let line = Line { name: "a", points: vec![(0.0, 0.2), (1.0, 5.0), (2.0, 90.0)] };
            let chart = Chart { lines: vec![line], is_log, ..Chart::default() };
            let scale = Scale::of(&chart);
            let places = [0.2, 5.0, 90.0].map(|value| scale.y(value));
            assert!(places.is_sorted_by(|a, b| a > b), "{places:?}");
            assert!(places.iter().all(|y| (TOP..=HEIGHT - BOTTOM).contains(y)), "{places:?}");
        }
    }

    #[test]
    fn a_chart_of_nothing_and_of_one_point_is_still_drawn() {
        for points in [vec![], vec![(0.0, 0.0)]] {
            let chart = Chart { lines: vec![Line { name: "a", points }], ..Chart::default() };
            assert!(!chart.render().contains("NaN") && !chart.render().contains("inf"));
        }
    }
}
