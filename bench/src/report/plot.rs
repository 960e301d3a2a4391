//! The report as pictures: for each path, what the subject does for one of every peer's.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Report;
use crate::{
    row::{Direction, Row, SUBJECT},
    statistics::Spread,
};

/// Pixels of a line, and of what stands above and below the lines.
const LINE: u32 = 20;
const REST: u32 = 110;
/// Pixels of the picture and of the names at its left side.
const WIDTH: u32 = 1000;
const NAMES: u32 = 460;

/// Better than the peer, worse, and neither.
const BETTER: RGBColor = RGBColor(38, 128, 86);
const WORSE: RGBColor = RGBColor(186, 62, 50);
const EVEN: RGBColor = RGBColor(110, 110, 110);

/// One line of a picture.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: String,
    ratio: Spread,
    direction: Direction,
}

/// Draws a file for each path, `<path>.svg`.
///
/// # Errors
///
/// When a file can't be drawn.
pub fn draw(report: &Report, directory: &Path) -> Result<()> {
    for (path, lines) in pictures(report) {
        let file = directory.join(format!("{path}.svg"));
        picture(&path, &lines, &file)
            .map_err(|error| anyhow!("failed to draw {}: {error}", file.display()))?;
    }
    Ok(())
}

/// The lines of each picture, by the first word of the rows' ids.
fn pictures(report: &Report) -> BTreeMap<String, Vec<Line>> {
    let mut pictures: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for judged in &report.rows {
        let row = &judged.row;
        let path = row.about.id.split('/').next().unwrap_or_default();
        let lines = lines(row);
        if !lines.is_empty() {
            pictures.entry(path.to_owned()).or_default().extend(lines);
        }
    }
    pictures
}

fn lines(row: &Row) -> Vec<Line> {
    let peers = row.series.iter().filter(|series| series.name != SUBJECT);
    peers
        .filter_map(|series| {
            Some(Line {
                name: format!("{} ÷ {}", row.about.id, series.name),
                // A logarithmic scale has no place for nothing, nor for what nothing divides.
                ratio: row.ratio(&series.name).filter(has_a_place)?,
                direction: row.about.direction,
            })
        })
        .collect()
}

fn has_a_place(ratio: &Spread) -> bool {
    let Spread {
        lower,
        median,
        upper,
        ..
    } = *ratio;
    [lower, median, upper]
        .iter()
        .all(|it| it.is_finite() && *it > 0.0)
}

fn picture(path: &str, lines: &[Line], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let height = REST + LINE * lines.len() as u32;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (from, to) = range(lines);
    let count = lines.len() as i32;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!(
                "{path}: {SUBJECT} ÷ peer, median and quartiles; green is better, red is worse"
            ),
            ("sans-serif", 18),
        )
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((from..to).log_scale(), (0..count).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(lines.len())
        .y_label_formatter(&|place| name(lines, place))
        // More of them run into each other where the range is less than a power of ten.
        .x_labels(6)
        .x_label_formatter(&|ratio| format!("{}", (ratio * 1000.0).round() / 1000.0))
        .draw()?;
    let one = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Last)];
    chart.draw_series([PathElement::new(one, BLACK)])?;
    for (at, line) in lines.iter().enumerate() {
        // The first line is the uppermost.
        let place = SegmentValue::CenterOf(count - 1 - at as i32);
        let color = color(line);
        let quartiles = [
            (line.ratio.lower, place.clone()),
            (line.ratio.upper, place.clone()),
        ];
        chart.draw_series([PathElement::new(quartiles, color.stroke_width(5))])?;
        chart.draw_series([Circle::new((line.ratio.median, place), 4, color.filled())])?;
    }
    root.present()?;
    Ok(())
}

fn name(lines: &[Line], place: &SegmentValue<i32>) -> String {
    let (SegmentValue::CenterOf(at) | SegmentValue::Exact(at)) = place else {
        return String::new();
    };
    let from_top = lines.len() as i32 - 1 - at;
    usize::try_from(from_top)
        .ok()
        .and_then(|at| lines.get(at))
        .map(|line| line.name.clone())
        .unwrap_or_default()
}

/// From which ratio to which: 1 and all medians with some room, at least from a half to 2.
fn range(lines: &[Line]) -> (f64, f64) {
    let ratios = || lines.iter().map(|line| line.ratio);
    let least = ratios().map(|ratio| ratio.lower).fold(0.5, f64::min);
    let most = ratios().map(|ratio| ratio.upper).fold(2.0, f64::max);
    (least.max(0.001) * 0.9, most * 1.1)
}

/// Green where three quarters of the rounds are better than the peer, red where they are worse.
fn color(line: &Line) -> RGBColor {
    let above = line.ratio.lower > 1.0;
    let below = line.ratio.upper < 1.0;
    match (line.direction, above, below) {
        (Direction::HigherIsBetter, true, _) | (Direction::LowerIsBetter, _, true) => BETTER,
        (Direction::HigherIsBetter, _, true) | (Direction::LowerIsBetter, true, _) => WORSE,
        _ => EVEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ratios: &[f64], direction: Direction) -> Line {
        Line {
            name: "path/load ÷ plain".to_owned(),
            ratio: Spread::of(ratios).expect("there are ratios"),
            direction,
        }
    }

    #[test]
    fn a_line_is_green_only_where_the_quartiles_are_on_the_better_side() {
        let (higher, lower) = (Direction::HigherIsBetter, Direction::LowerIsBetter);
        assert_eq!(color(&line(&[1.2, 1.3], higher)), BETTER);
        assert_eq!(color(&line(&[1.2, 1.3], lower)), WORSE);
        assert_eq!(color(&line(&[0.8, 0.9], lower)), BETTER);
        assert_eq!(color(&line(&[0.5, 1.5], higher)), EVEN);
    }

    #[test]
    fn what_is_divided_by_nothing_has_no_place_in_a_picture() {
        let spread = |ratios: &[f64]| Spread::of(ratios).expect("there are ratios");
        assert!(has_a_place(&spread(&[0.5, 1.0, 2.0])));
        assert!(!has_a_place(&spread(&[0.0, 0.0, 2.0])));
        assert!(!has_a_place(&spread(&[1.0, f64::INFINITY])));
        assert!(!has_a_place(&spread(&[f64::NAN])));
    }

    #[test]
    fn a_picture_names_every_line() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("path.svg");
        let lines = [
            line(&[1.2, 1.3], Direction::HigherIsBetter),
            Line {
                name: "path/other ÷ plain".to_owned(),
                ..line(&[0.1, 15.0], Direction::HigherIsBetter)
            },
        ];
        picture("path", &lines, &file).expect("it can be drawn");
        let svg = std::fs::read_to_string(&file).expect("a picture");
        for line in &lines {
            assert!(svg.contains(&line.name), "{} is not in {svg}", line.name);
        }
    }
}
