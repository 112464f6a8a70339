//! Line plots as SVG: panels side by side over one logarithmic axis, in colours
//! that are readable on light and dark ground.

use std::fmt::Write as _;

/// One panel: what its vertical axis shows, and in which unit.
pub struct Panel {
    pub title: &'static str,
    pub unit: &'static str,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: &'static str,
    /// Along x, above 0; y from 0 on.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 240.0;
/// Around the area in which lines are drawn.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 46.0;
const INK: [&str; 3] = ["first", "second", "third"];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#555}.title{font-weight:600}\
    .grid{stroke:#8885;stroke-width:1}path{fill:none;stroke-width:2}\
    .first{stroke:#0969da;fill:#0969da}.second{stroke:#bc4c00;fill:#bc4c00}\
    .third{stroke:#1a7f37;fill:#1a7f37}path.first,path.second,path.third{fill:none}\
    text.first,text.second,text.third{stroke:none}\
    @media(prefers-color-scheme:dark){text{fill:#aaa}.first{stroke:#58a6ff;fill:#58a6ff}\
    .second{stroke:#f0883e;fill:#f0883e}.third{stroke:#56d364;fill:#56d364}\
    path.first,path.second,path.third{fill:none}}";

/// Panels from left to right; `x` labels the axis that they share.
pub fn draw(panels: &[Panel], x: &str) -> String {
    let width = WIDTH * panels.len() as f64;
    let drawn = panels.iter().enumerate().map(|(index, panel)| {
        format!("<g transform=\"translate({:.0} 0)\">{}</g>\n", WIDTH * index as f64, one(panel, x))
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
         width=\"{width}\" height=\"{HEIGHT}\" role=\"img\">\n<style>{STYLE}</style>\n{}</svg>\n",
        drawn.collect::<String>()
    )
}

fn one(panel: &Panel, x: &str) -> String {
    let all = || panel.lines.iter().flat_map(|line| &line.points);
    let largest = all().map(|(_, y)| *y).fold(0.0, f64::max);
    let (step, top) = axis(largest);
    let from = all().map(|(x, _)| x.log10()).fold(f64::INFINITY, f64::min).floor();
    let to = all().map(|(x, _)| x.log10()).fold(f64::NEG_INFINITY, f64::max).ceil().max(from + 1.0);
    let across = |x: f64| LEFT + (x.log10() - from) / (to - from) * (WIDTH - LEFT - RIGHT);
    let up = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);
    let (title, unit) = (panel.title, panel.unit);

    let mut svg = format!("<text class=\"title\" x=\"{LEFT}\" y=\"16\">{title} ({unit})</text>");
    let mut text = |class: &str, anchor: &str, x: f64, y: f64, words: &str| {
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
        );
    };
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    text("", "middle", middle, HEIGHT - 8.0, x);
    let mut legend = LEFT;
    for (line, ink) in panel.lines.iter().zip(INK) {
        text(ink, "start", legend, 34.0, line.name);
        legend += 8.0 * line.name.chars().count() as f64 + 10.0;
    }
    let ticks = |step: f64, top: f64| {
        (0..).map(move |n| f64::from(n) * step).take_while(move |y| *y <= top * 1.001)
    };
    for y in ticks(step, top) {
        text("", "end", LEFT - 6.0, up(y) + 4.0, &short(y));
    }
    for power in ticks(1.0, to - from) {
        let x = 10f64.powf(from + power);
        text("", "middle", across(x), HEIGHT - BOTTOM + 17.0, &short(x));
    }
    for y in ticks(step, top) {
        let (y, right) = (up(y), WIDTH - RIGHT);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
    }
    for (line, ink) in panel.lines.iter().zip(INK) {
        let mut path = String::new();
        for (index, (x, y)) in line.points.iter().enumerate() {
            let (x, y) = (across(*x), up(*y));
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
            let _ = write!(svg, "<circle class=\"{ink}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
        let _ = write!(svg, "<path class=\"{ink}\" d=\"{path}\"/>");
    }
    svg
}

/// Round steps, four to eight of them, and the top that holds `largest`.
fn axis(largest: f64) -> (f64, f64) {
    let rough = (largest / 5.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    (step, (largest / step).ceil().max(1.0) * step)
}

fn short(number: f64) -> String {
    let whole = |number: f64, unit: &str| format!("{}{unit}", (number * 100.0).round() / 100.0);
    match number {
        n if n >= 1e6 => whole(n / 1e6, "M"),
        n if n >= 1e3 => whole(n / 1e3, "k"),
        n => whole(n, ""),
    }
}
