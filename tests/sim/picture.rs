//! The matrix as a table in `docs/NAT.md`: written by `scripts/matrix`, and held to what each ordinary run sees.

use crate::cells::{Cell, KINDS};
use crate::grid::Run;
use crate::oracle::Verdict;
use punchcast::policy::Rung;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// A cell in the picture: the rung's letter, the median time, the share of runs that linked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    letter: char,
    median: Duration,
    linked: usize,
    runs: usize,
}

impl Summary {
    pub(crate) fn of(runs: &[Run]) -> Self {
        let mut linked: Vec<(Duration, Rung)> =
            runs.iter().filter_map(|run| Some((run.took, run.rung?))).collect();
        linked.sort_unstable();
        let count = |rung| linked.iter().filter(|(_, of)| *of == rung).count();
        let never = runs.iter().filter(|run| run.verdict == Verdict::Never).count();
        let rungs = [Rung::Lan, Rung::Reverse, Rung::Public, Rung::Punched, Rung::Predicted];
        let most = rungs.into_iter().max_by_key(|rung| count(*rung)).filter(|rung| count(*rung) > 0);
        let letter = match most {
            None => NONE,
            Some(Rung::Lan) => 'L',
            Some(Rung::Reverse) => 'R',
            Some(Rung::Public) => 'U',
            // Where nothing has to be guessed, a guess may still be the first to hit.
            Some(Rung::Punched | Rung::Predicted) if never * 2 < runs.len() => 'P',
            Some(Rung::Punched | Rung::Predicted) => 'G',
            Some(Rung::PortMapped | Rung::Relayed) => unreachable!("not among those that are counted"),
        };
        let median = linked.get(linked.len() / 2).map_or(Duration::ZERO, |(took, _)| *took);
        Self { letter, median, linked: linked.len(), runs: runs.len() }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.linked == 0 {
            return write!(f, "{NONE}");
        }
        write!(f, "{} {:.1}", self.letter, self.median.as_secs_f64())?;
        let share = self.linked as f64 / self.runs as f64 * 100.0;
        match self.linked == self.runs {
            true => Ok(()),
            // A miss in a thousand must not round to none.
            false if share >= 99.0 => write!(f, " {share:.1}%"),
            false => write!(f, " {share:.0}%"),
        }
    }
}

/// Writes the picture where `PUNCHCAST_MATRIX_WRITE` is set; else holds the one that is there to these results.
pub(crate) fn keep(cells: &[Cell], results: &[Vec<Run>], seeds: &Range<u64>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/NAT.md");
    let text = std::fs::read_to_string(&path).expect("docs/NAT.md can be read");
    let (before, rest) = text.split_once(BEGIN).expect("docs/NAT.md has the beginning of the picture");
    let (old, after) = rest.split_once(END).expect("docs/NAT.md has the end of the picture");
    if std::env::var_os("PUNCHCAST_MATRIX_WRITE").is_some() {
        let picture = draw(cells, results, seeds);
        std::fs::write(&path, format!("{before}{BEGIN}\n{picture}{END}{after}"))
            .expect("docs/NAT.md can be written");
        return;
    }
    let kept = parse(old);
    assert_eq!(kept.len(), cells.len(), "the picture in docs/NAT.md has other cells; run scripts/matrix");
    for ((cell, runs), (letter, share)) in cells.iter().zip(results).zip(kept) {
        let seen = Summary::of(runs);
        // A few runs of a cell that seldom links may see none that does, and the reverse.
        let agrees = seen.letter == letter || (share < RARE && [letter, seen.letter].contains(&NONE));
        assert!(agrees, "{}: {seen}, but {letter} in docs/NAT.md; run scripts/matrix", cell.name());
    }
}

fn draw(cells: &[Cell], results: &[Vec<Run>], seeds: &Range<u64>) -> String {
    let mut lines = vec![format!("{} runs of each cell.", seeds.end - seeds.start), String::new()];
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    lines.push(format!("| caster ↓ viewer → | {} |", names.join(" | ")));
    lines.push(format!("|---|{}", "---|".repeat(names.len())));
    let summaries: Vec<Summary> = results.iter().map(|runs| Summary::of(runs)).collect();
    for (kind, row) in KINDS.iter().zip(summaries.chunks(KINDS.len())) {
        let row: Vec<String> = row.iter().map(Summary::to_string).collect();
        lines.push(format!("| {} | {} |", kind.name, row.join(" | ")));
    }
    lines.extend(["", "| name | what stands before a side |", "|---|---|"].map(str::to_owned));
    lines.extend(KINDS.iter().map(|kind| format!("| {} | {} |", kind.name, kind.words)));
    lines.extend(["", "| caster × viewer, elsewhere | |", "|---|---|"].map(str::to_owned));
    for (cell, summary) in cells.iter().zip(&summaries).skip(KINDS.len() * KINDS.len()) {
        lines.push(format!("| {} | {summary} |", cell.name()));
    }
    lines.join("\n") + "\n"
}

/// Letter and share of each cell of a picture, in order.
fn parse(picture: &str) -> Vec<(char, f64)> {
    let fields = |line: &str| -> Vec<String> {
        line.trim_matches(['|', ' ']).split('|').map(|field| field.trim().to_owned()).collect()
    };
    let rows = picture.lines().filter(|line| line.starts_with('|')).map(fields);
    let is_cell = |field: &String| {
        let mut chars = field.chars();
        let letter = chars.next().is_some_and(|letter| LETTERS.contains(letter));
        letter && chars.next().is_none_or(|next| next == ' ')
    };
    let share = |field: &String| {
        let word = field.split(' ').nth(2).and_then(|word| word.strip_suffix('%'));
        word.map_or(100.0, |word| word.parse().expect("a share is a number"))
    };
    let cell = |field: &String| (field.chars().next().unwrap_or(NONE), share(field));
    rows.flat_map(|row| row[1..].iter().filter(|field| is_cell(field)).map(cell).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_picture_is_read_as_it_was_drawn() {
    let picture = "| caster ↓ viewer → | open | fw |\n|---|---|---|\n| open | U 0.5 | R 1.1 99.9% |\n| fw | – | G 2.0 45% |\n";
    assert_eq!(parse(picture), [('U', 100.0), ('R', 99.9), (NONE, 100.0), ('G', 45.0)]);
}

const BEGIN: &str = "<!-- matrix: begin -->";
const END: &str = "<!-- matrix: end -->";
const NONE: char = '–';
const LETTERS: &str = "LRUPG–";
/// Percent of runs below which a few runs may see no link.
const RARE: f64 = 40.0;
