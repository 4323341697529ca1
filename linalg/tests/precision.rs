//! `tests/precision.md` is current, and every bound in it holds.

mod measure;

/// The cells of a file's tables, without the last `figures` of each line.
fn cells(text: &str, figures: usize) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            cells[..cells.len().saturating_sub(figures)].to_vec()
        })
        .collect()
}

#[test]
fn bounds_hold() {
    for row in measure::rows().unwrap() {
        assert!(row.worst <= 1.0, "{} in {}: {} of {}", row.routine, row.element, row.worst, row.bound);
    }
    for region in measure::regions() {
        assert!(region.points > 0, "{} {}", region.function, region.region);
        let worst = (region.large, region.small, region.absolute);
        let holds = worst.0 <= 8.0 && worst.1 <= 8.0 && worst.2 <= 1.0;
        assert!(holds, "{} where {}: {worst:?}", region.function, region.region);
    }
}

#[test]
fn the_file_is_current() {
    let (file, now) = (include_str!("../../tests/precision.md"), measure::document().unwrap());
    for (part, figures) in [(0, 1), (1, 3)] {
        let split = |text| -> Vec<Vec<&str>> {
            let text: &str = text;
            cells(text.split("\n## ").nth(part).unwrap(), figures)
        };
        assert_eq!(split(file), split(&now), "run the generator named in the file");
    }
    // What is committed is within the bounds too.
    for row in file.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `")) {
        let worst: f64 = row.trim_end_matches(" |").rsplit(" | ").next().unwrap().parse().unwrap();
        assert!((0.0..=1.0).contains(&worst), "{row}");
    }
}
