//! Plots as SVG: axes with ticks, lines, areas and bars. Colours are classes, for the page's styles
//! to choose, so that a plot is readable on light and dark ground.

use std::fmt::Write;

/// The whole drawing, and the frame of the data in it, in SVG's units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 246.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 728.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 218.0;
/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;
/// Ticks of a logarithmic axis within a decade, where there are few decades.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// From values to places between 0 and 1.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    Linear { max: f64 },
    Logarithmic { min: f64, max: f64 },
}

impl Scale {
    /// From 0 to a round number that is not below `max`.
    pub(super) fn linear(max: f64) -> Scale {
        let step = step_of(max);
        Scale::Linear { max: (max / step).ceil().max(1.0) * step }
    }

    /// From 0 to exactly `max`.
    pub(super) fn exactly(max: f64) -> Scale {
        Scale::Linear { max: max.max(f64::MIN_POSITIVE) }
    }

    /// Around these, which are above 0, from one of the ticks to another.
    pub(super) fn logarithmic(min: f64, max: f64) -> Scale {
        let floor = |value: f64| {
            let decade = 10_f64.powf(value.log10().floor());
            STEPS.iter().rev().map(|step| step * decade).find(|tick| *tick <= value * 1.000_001)
        };
        let min = floor(min).unwrap_or(min);
        let mut top = floor(max).unwrap_or(max);
        while top < max || top <= min {
            top = next_tick(top);
        }
        Scale::Logarithmic { min, max: top }
    }

    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear { max } => value / max,
            Scale::Logarithmic { min, max } => {
                let value = value.clamp(min, max);
                (value / min).log10() / (max / min).log10()
            }
        }
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Scale::Linear { max } => {
                let step = step_of(max);
                let count = (max / step * 1.000_001).floor() as u32;
                (0..=count).map(|n| f64::from(n) * step).collect()
            }
            Scale::Logarithmic { min, max } => {
                let mut ticks = vec![min];
                while let Some(last) = ticks.last().filter(|last| **last < max * 0.999_999) {
                    ticks.push(next_tick(*last));
                }
                if ticks.len() > 8 {
                    let is_decade = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
                    ticks.retain(is_decade);
                }
                ticks
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn next_tick(tick: f64) -> f64 {
    let decade = 10_f64.powf((tick * 1.000_001).log10().floor());
    let next = STEPS.iter().map(|step| step * decade).find(|next| *next > tick * 1.000_001);
    next.unwrap_or(10.0 * decade)
}

/// A round distance of ticks for values from 0 to `max`.
fn step_of(max: f64) -> f64 {
    let rough = max.max(f64::MIN_POSITIVE) / TICKS;
    let decade = 10_f64.powf(rough.log10().floor());
    let fits = |step: &f64| *step * decade >= rough * 0.999_999;
    STEPS.into_iter().find(fits).unwrap_or(10.0) * decade
}

/// A number of things for people: 1,200 is 1.2k.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value {
        ..1e3 => (value, ""),
        ..1e6 => (value / 1e3, "k"),
        ..1e9 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// A plot in the making.
pub(super) struct Plot {
    svg: String,
    x: Scale,
    y: Scale,
}

impl Plot {
    /// With axes. `title` is for readers who hear the page; labels are for the ticks.
    pub(super) fn new(
        title: &str,
        x: (Scale, &dyn Fn(f64) -> String),
        y: (Scale, &dyn Fn(f64) -> String),
    ) -> Plot {
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n");
        for tick in y.0.ticks() {
            let at = BOTTOM - y.0.place(tick) * (BOTTOM - TOP);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                (y.1)(tick)
            );
        }
        for tick in x.0.ticks() {
            let at = LEFT + x.0.place(tick) * (RIGHT - LEFT);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{BOTTOM}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 5.0,
                BOTTOM + 20.0,
                (x.1)(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\"/>"
        );
        Plot { svg, x: x.0, y: y.0 }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = LEFT + self.x.place(x) * (RIGHT - LEFT);
        (across, BOTTOM - self.y.place(y) * (BOTTOM - TOP))
    }

    /// A line through the points; `None` interrupts it.
    pub(super) fn line(mut self, class: &str, points: &[Option<(f64, f64)>]) -> Plot {
        let mut path = String::new();
        for run in points.split(Option::is_none).filter(|run| !run.is_empty()) {
            for (index, point) in run.iter().flatten().enumerate() {
                let (x, y) = self.at(*point);
                let command = if index == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{x:.1} {y:.1}");
            }
            if let [Some(alone)] = run {
                // A point without neighbours would not be seen.
                let (x, y) = self.at(*alone);
                let _ = write!(path, "L{:.1} {y:.1}", x + 1.0);
            }
        }
        let _ = writeln!(self.svg, "<path class=\"line {class}\" d=\"{path}\"/>");
        self
    }

    /// The area below a line.
    pub(super) fn area(mut self, class: &str, points: &[(f64, f64)]) -> Plot {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return self };
        let (begin, end) = (self.at(*first).0, self.at(*last).0);
        let mut path = format!("M{begin:.1} {BOTTOM}");
        for point in points {
            let (x, y) = self.at(*point);
            let _ = write!(path, "L{x:.1} {y:.1}");
        }
        let _ =
            writeln!(self.svg, "<path class=\"area {class}\" d=\"{path}L{end:.1} {BOTTOM}Z\"/>");
        self
    }

    /// A bar between two values of x, with words that show when it is pointed at.
    pub(super) fn bar(mut self, class: &str, from: f64, to: f64, height: f64, words: &str) -> Plot {
        let (left, top) = self.at((from, height));
        let (right, _) = self.at((to, height));
        let _ = writeln!(
            self.svg,
            "<rect class=\"bar {class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
             height=\"{:.1}\"><title>{words}</title></rect>",
            left + 0.5,
            (right - left - 1.0).max(0.5),
            BOTTOM - top
        );
        self
    }

    /// A place to point at, over the whole height, with words.
    pub(super) fn hint(mut self, from: f64, to: f64, words: &str) -> Plot {
        let (left, _) = self.at((from, 0.0));
        let (right, _) = self.at((to, 0.0));
        let _ = writeln!(
            self.svg,
            "<rect class=\"hint\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\">\
             <title>{words}</title></rect>",
            right - left,
            BOTTOM - TOP
        );
        self
    }

    /// The drawing.
    pub(super) fn svg(self) -> String {
        self.svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], wanted: &[f64]) {
        let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9 * b.abs().max(1.0);
        assert!(found.len() == wanted.len() && found.iter().zip(wanted).all(same), "{found:?}");
    }

    #[test]
    fn ticks_are_round_numbers_from_end_to_end() {
        near(&Scale::linear(93.0).ticks(), &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        near(&Scale::linear(0.0).ticks()[..1], &[0.0]);
        near(&Scale::exactly(7.3).ticks(), &[0.0, 2.0, 4.0, 6.0]);
        near(&Scale::logarithmic(0.3, 4.0).ticks(), &[0.2, 0.5, 1.0, 2.0, 5.0]);
        near(&Scale::logarithmic(0.3, 4_000.0).ticks(), &[1.0, 10.0, 100.0, 1_000.0]);
        near(&Scale::logarithmic(1.0, 1.0).ticks(), &[1.0, 2.0]);
    }

    #[test]
    fn places_are_between_the_ends() {
        let scale = Scale::logarithmic(1.0, 100.0);
        near(&[scale.place(1.0), scale.place(10.0), scale.place(100.0)], &[0.0, 0.5, 1.0]);
        near(&[scale.place(0.0), scale.place(1e9)], &[0.0, 1.0]);
        near(&[Scale::linear(10.0).place(5.0)], &[0.5]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [(0.0, "0"), (12.5, "12.5"), (1_200.0, "1.2k"), (3e6, "3M")] {
            assert_eq!(short(value), text);
        }
    }
}
