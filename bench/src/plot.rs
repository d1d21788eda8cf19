//! The plot: a bar for each goal, as long as the share of the goal that was reached, and a line where the goal is.
//!
//! Written as SVG by hand: it is rectangles and text, and the style sheet lets it follow the reader's light or dark.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

use crate::figures::{Goal, Summary, Target};
use crate::report::value;

/// Everything below is in pixels.
const WIDTH: f64 = 1_160.0;
const MARGIN: f64 = 16.0;
const HEAD_HEIGHT: f64 = 56.0;
const ROW_HEIGHT: f64 = 30.0;
const BAR_HEIGHT: f64 = 16.0;
/// Where bars begin and the longest one ends; names stand to the left, values to the right.
const BARS_LEFT: f64 = 390.0;
const BARS_RIGHT: f64 = 750.0;
/// The share at which bars end; what reached more is cut there, and its text says how much.
const SHARE_MAX: f64 = 2.0;

const STYLE: &str = "\
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }\n\
    .title { font-size: 16px; font-weight: 600 }\n\
    .quiet { fill: #59636e }\n\
    .back { fill: #ffffff }\n\
    .reached { fill: #4c9a6a }\n\
    .missed { fill: #d1762c }\n\
    .goal { stroke: #1f2328; stroke-width: 1.5 }\n\
    .spread { stroke: #1f2328; stroke-width: 1; opacity: 0.7 }\n\
    @media (prefers-color-scheme: dark) {\n\
      text { fill: #e6edf3 }\n\
      .quiet { fill: #9198a1 }\n\
      .back { fill: #0d1117 }\n\
      .reached { fill: #3f8f5f }\n\
      .missed { fill: #c4682a }\n\
      .goal, .spread { stroke: #e6edf3 }\n\
    }\n";

/// Writes the plot of these goals.
pub fn draw(targets: &[Target], file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, svg(targets))
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn svg(targets: &[Target]) -> String {
    let mut rows = String::new();
    let mut top = HEAD_HEIGHT;
    for target in targets {
        rows.push_str(&row(target, top));
        top += ROW_HEIGHT;
    }
    let (height, goal) = (top + MARGIN, x_of(1.0));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <title>Tidegate: share of each goal that was reached</title>\n\
         <style>\n{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"28\">Share of each goal that was reached</text>\n\
         <text class=\"quiet\" x=\"{goal}\" y=\"44\" text-anchor=\"middle\">goal</text>\n\
         {rows}\
         <line class=\"goal\" x1=\"{goal}\" x2=\"{goal}\" y1=\"{}\" y2=\"{top}\"/>\n\
         </svg>\n",
        HEAD_HEIGHT - 6.0
    )
}

/// Name, bar, spread over the rounds, and the same as text.
fn row(target: &Target, top: f64) -> String {
    let Summary { median, min, max, .. } = target.summary;
    let (class, mark) = if target.is_reached() { ("reached", "") } else { ("missed", ", missed") };
    let unit = target.unit;
    let goal = match target.goal {
        Goal::AtLeast(least) => format!("≥ {}", value(unit, least)),
        Goal::AtMost(most) => format!("≤ {}", value(unit, most)),
    };
    let (median_text, min_text, max_text) =
        (value(unit, median), value(unit, min), value(unit, max));
    let (bar_top, middle) = (top + (ROW_HEIGHT - BAR_HEIGHT) / 2.0, top + ROW_HEIGHT / 2.0);
    let baseline = middle + 4.5;
    let (name_right, value_left) = (BARS_LEFT - 10.0, BARS_RIGHT + 10.0);
    let length = x_of(target.share()) - BARS_LEFT;
    let (from, to) = (x_of(target.share_of(min)), x_of(target.share_of(max)));
    let mut row = String::new();
    let _ = writeln!(
        row,
        "<text x=\"{name_right}\" y=\"{baseline}\" text-anchor=\"end\">{}</text>",
        escaped(&target.name)
    );
    let _ = writeln!(
        row,
        "<rect class=\"{class}\" x=\"{BARS_LEFT}\" y=\"{bar_top}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\"/>"
    );
    let _ = writeln!(
        row,
        "<line class=\"spread\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>"
    );
    let _ = writeln!(
        row,
        "<text x=\"{value_left}\" y=\"{baseline}\">{median_text} \
         <tspan class=\"quiet\">[{min_text} … {max_text}], goal {goal}{mark}</tspan></text>"
    );
    row
}

/// Where a share is.
fn x_of(share: f64) -> f64 {
    // Nothing measured as nothing, such as a latency of 0, is beyond every goal.
    let share = if share.is_finite() { share.clamp(0.0, SHARE_MAX) } else { SHARE_MAX };
    BARS_LEFT + (BARS_RIGHT - BARS_LEFT) * share / SHARE_MAX
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Unit;

    fn target(name: &str, median: f64, goal: Goal) -> Target {
        let summary = Summary { median, min: median * 0.9, max: median * 1.1, rounds: 3 };
        Target { name: name.to_owned(), unit: Unit::Ratio, summary, goal }
    }

    #[test]
    fn a_bar_is_as_long_as_the_share_of_its_goal() {
        let width = BARS_RIGHT - BARS_LEFT;
        for (median, goal, share) in [
            (2.0, Goal::AtLeast(2.0), 1.0),
            (1.0, Goal::AtLeast(2.0), 0.5),
            (1.0, Goal::AtMost(2.0), 2.0),
            (4.0, Goal::AtMost(2.0), 0.5),
            (90.0, Goal::AtLeast(1.0), SHARE_MAX),
            (0.0, Goal::AtMost(1.0), SHARE_MAX),
        ] {
            let row = row(&target("any", median, goal), 0.0);
            let expected = format!("width=\"{:.1}\"", width * share / SHARE_MAX);
            assert!(row.contains(&expected), "{median} {goal:?}: {row}");
            assert_eq!(row.contains("missed"), share < 1.0, "{row}");
        }
    }

    #[test]
    fn a_name_is_text() {
        let svg = svg(&[target("a < b & c", 1.0, Goal::AtLeast(1.0))]);
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
    }
}
