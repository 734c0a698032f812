//! The page's plots, as inline SVG. Pure.
//!
//! Everything is drawn at twice the size in which it is shown. Colours are placeholders: the page's style sheet gives
//! each one its shade in light and in dark.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Text and axes.
const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
/// Lines of the grid.
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
/// One colour for each list: mined, random, given.
pub(crate) const LISTS: [RGBColor; 3] =
    [RGBColor(0x1F, 0x6F, 0xEB), RGBColor(0x88, 0x88, 0x88), RGBColor(0xD9, 0x6B, 0x0B)];

const WIDTH: u32 = 720;
const TEXT: u32 = 30;
/// Width that a letter takes, at most.
const LETTER: i32 = 16;
const BAR: i32 = 26;

/// Drawing cannot fail: an SVG is written into a string.
const DRAWN: &str = "a plot is drawn in memory";

/// An SVG element of a height, with a text for screen readers.
fn svg(label: &str, height: u32, draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, plotters::coord::Shift>)) -> Markup {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(&area);
        area.present().expect(DRAWN);
    }
    // Inside a page the element needs no namespace and no fixed size: the page's own element takes its place.
    let inner = text.split_once('>').map_or("", |(_, rest)| rest);
    let inner = inner.trim_end().trim_end_matches("</svg>");
    html! { svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(label) { (PreEscaped(inner)) } }
}

fn font(color: &RGBColor) -> TextStyle<'_> {
    ("sans-serif", TEXT).into_font().color(color)
}

/// Shares of each list in bins between `bounds`, as outlined areas.
pub(crate) fn outlines(label: &str, bounds: &[f64], lists: &[&[f64]], x: &str) -> Markup {
    let (Some(first), Some(last)) = (bounds.first().copied(), bounds.last().copied()) else { return html! {} };
    let most = lists.iter().flat_map(|shares| shares.iter()).copied().fold(0.0, f64::max).max(1e-9);
    svg(label, 440, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(84)
            .y_label_area_size(104)
            .build_cartesian_2d(first..last, 0.0..100.0 * most * 1.05)
            .expect(DRAWN);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(font(&INK))
            .axis_desc_style(font(&INK))
            .x_desc(x)
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&|value| format!("{value:.2}"))
            .y_label_formatter(&|value| format!("{value:.0} %"))
            .draw()
            .expect(DRAWN);
        for (shares, color) in lists.iter().zip(&LISTS).rev() {
            // Down to the axis at both ends, and a step for each bin.
            let steps = shares.iter().zip(bounds.windows(2));
            let steps = steps.flat_map(|(share, bin)| [(bin[0], 100.0 * share), (bin[1], 100.0 * share)]);
            let line: Vec<(f64, f64)> = std::iter::once((first, 0.0)).chain(steps).chain([(last, 0.0)]).collect();
            chart.draw_series([Polygon::new(line.clone(), color.mix(0.18).filled())]).expect(DRAWN);
            chart.draw_series([PathElement::new(line, color.stroke_width(4))]).expect(DRAWN);
        }
    })
}

/// Shares of each list in named buckets, as bars side by side.
pub(crate) fn columns(label: &str, names: &[String], lists: &[Vec<f64>], x: &str) -> Markup {
    let most = lists.iter().flatten().copied().fold(0.0, f64::max).max(1e-9);
    let width = 0.84 / lists.len() as f64;
    svg(label, 440, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(84)
            .y_label_area_size(104)
            .build_cartesian_2d(0.0..names.len() as f64, 0.0..100.0 * most * 1.05)
            .expect(DRAWN);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(font(&INK))
            .y_labels(5)
            .y_label_formatter(&|value| format!("{value:.0} %"))
            .draw()
            .expect(DRAWN);
        for (index, (shares, color)) in lists.iter().zip(&LISTS).enumerate() {
            let bar = |(bucket, share): (usize, &f64)| {
                let left = bucket as f64 + 0.08 + index as f64 * width;
                Rectangle::new([(left, 0.0), (left + width, 100.0 * share)], color.filled())
            };
            chart.draw_series(shares.iter().enumerate().map(bar)).expect(DRAWN);
        }
        let under = font(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        // Many names share the width: they are set smaller, so that none runs into the next.
        let letters = names.iter().map(|name| name.chars().count()).max().unwrap_or(1) + 1;
        let room = (WIDTH as usize - 120) / names.len().max(1);
        let size = ((room * 2 / letters) as u32).clamp(16, TEXT);
        let small = ("sans-serif", size).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        for (bucket, name) in names.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(bucket as f64 + 0.5, 0.0));
            area.draw(&Text::new(name.as_str(), (x, y + 8), small.clone())).expect(DRAWN);
        }
        let middle = chart.backend_coord(&(names.len() as f64 / 2.0, 0.0));
        area.draw(&Text::new(x, (middle.0, middle.1 + 46), under)).expect(DRAWN);
    })
}

/// One row of horizontal bars: a name, and a bar with its figure for each list.
pub(crate) struct Bars {
    pub name: String,
    /// Size and figure of each bar.
    pub bars: Vec<(f64, String)>,
}

/// Horizontal bars, all from one line behind the names.
pub(crate) fn bars(label: &str, rows: &[Bars]) -> Markup {
    let letters = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0) as i32;
    let names = 24 + LETTER * letters;
    let most = rows.iter().flat_map(|row| &row.bars).map(|(size, _)| *size).fold(0.0, f64::max).max(1e-9);
    let step = |row: &Bars| BAR * row.bars.len() as i32 + 18;
    let height: i32 = rows.iter().map(step).sum::<i32>() + 8;
    // Room for a figure behind the longest bar.
    let room = f64::from(WIDTH as i32 - names - 150);
    svg(label, height as u32, |area| {
        let mut y = 8;
        for row in rows {
            let middle = y + BAR * row.bars.len() as i32 / 2;
            let left = font(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(row.name.as_str(), (names - 12, middle), left)).expect(DRAWN);
            for (index, (size, figure)) in row.bars.iter().enumerate() {
                let top = y + BAR * index as i32;
                let end = names + (room * size / most).round() as i32;
                let bar = Rectangle::new([(names, top), (end.max(names + 1), top + BAR - 3)], LISTS[index].filled());
                area.draw(&bar).expect(DRAWN);
                let behind = font(&INK).pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(figure.as_str(), (end + 10, top + BAR / 2 - 1), behind)).expect(DRAWN);
            }
            y += step(row);
        }
        let axis = PathElement::new([(names, 0), (names, height)], INK.stroke_width(2));
        area.draw(&axis).expect(DRAWN);
    })
}
