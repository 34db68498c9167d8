//! Character by character: how far two texts are apart, and where.

use super::class::LONGEST;

/// Edits (one character put in, taken out or exchanged) that make one text of the other; `None` beyond `most`. The work is
/// that of a band of `most` on either side of the diagonal.
pub(super) fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    if a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (a, b) = differing(&a, &b);
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let beyond = most + 1;
    let mut above: Vec<usize> = (0..=b.len()).map(|column| column.min(beyond)).collect();
    let mut row = vec![beyond; b.len() + 1];
    for (at, letter) in a.iter().enumerate() {
        let (first, last) = ((at + 1).saturating_sub(most).max(1), (at + 1 + most).min(b.len()));
        row[first - 1] = if first == 1 { (at + 1).min(beyond) } else { beyond };
        for column in first..=last {
            let exchanged = above[column - 1] + usize::from(*letter != b[column - 1]);
            let put_in = row[column - 1] + 1;
            // The cell above the end of the band is from a row before: outside.
            let taken_out = if column == at + 1 + most { beyond } else { above[column] } + 1;
            row[column] = exchanged.min(put_in).min(taken_out).min(beyond);
        }
        std::mem::swap(&mut above, &mut row);
    }
    above.last().copied().filter(|distance| *distance <= most)
}

/// What is left between what both begin and end with.
fn differing<'a>(a: &'a [char], b: &'a [char]) -> (&'a [char], &'a [char]) {
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    (&a[..a.len() - back], &b[..b.len() - back])
}

/// How many bytes two texts have in common at their beginning and end.
pub(super) fn shared(a: &str, b: &str) -> usize {
    let front = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let back = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    (front + back).min(a.len()).min(b.len())
}

/// A stretch of a text that the other has too, in this order, or has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The characters.
    pub text: String,
    /// Whether the other text has them.
    pub common: bool,
}

/// Both texts in pieces: what they have in common, and what only one of them has.
pub fn pieces(presented: &str, configured: &str) -> [Vec<Piece>; 2] {
    if presented.len() > LONGEST || configured.len() > LONGEST {
        return [presented, configured].map(|text| vec![Piece { text: text.to_owned(), common: false }]);
    }
    let (a, b): (Vec<char>, Vec<char>) = (presented.chars().collect(), configured.chars().collect());
    let mut steps = aligned(&a, &b);
    for run in steps.chunk_by_mut(|one, next| one.common == next.common) {
        if run.len() < SHORTEST && run.len() < a.len() {
            run.iter_mut().for_each(|step| step.common = false);
        }
    }
    [joined(&steps, |step| step.ours), joined(&steps, |step| step.theirs)]
}

/// What is shorter is common by chance: it makes a difference no clearer.
const SHORTEST: usize = 3;

/// A character of one text or of both.
struct Step {
    ours: Option<char>,
    theirs: Option<char>,
    common: bool,
}

/// Both texts side by side, with as much in common as there can be.
fn aligned(a: &[char], b: &[char]) -> Vec<Step> {
    let both = |letter: &char| Step { ours: Some(*letter), theirs: Some(*letter), common: true };
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (inner_a, inner_b) = differing(a, b);
    let longest = table(inner_a, inner_b);
    let width = inner_b.len() + 1;
    let mut steps: Vec<Step> = a[..front].iter().map(both).collect();
    let (mut i, mut j) = (0, 0);
    while let (ours, theirs) = (inner_a.get(i), inner_b.get(j))
        && ours.or(theirs).is_some()
    {
        let takes_ours = theirs.is_none()
            || (ours.is_some() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]);
        if let Some(letter) = ours.filter(|_| ours == theirs) {
            steps.push(both(letter));
            (i, j) = (i + 1, j + 1);
        } else if takes_ours {
            steps.push(Step { ours: ours.copied(), theirs: None, common: false });
            i += 1;
        } else {
            steps.push(Step { ours: None, theirs: theirs.copied(), common: false });
            j += 1;
        }
    }
    steps.extend(a[front + inner_a.len()..].iter().map(both));
    steps
}

/// The length of the longest common subsequence of what begins at each pair of places.
fn table(a: &[char], b: &[char]) -> Vec<u16> {
    let width = b.len() + 1;
    let mut longest = vec![0_u16; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let (below, beside) = (longest[(i + 1) * width + j], longest[i * width + j + 1]);
            let both = longest[(i + 1) * width + j + 1] + 1;
            longest[i * width + j] = if a[i] == b[j] { both } else { below.max(beside) };
        }
    }
    longest
}

fn joined(steps: &[Step], side: fn(&Step) -> Option<char>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (letter, common) in steps.iter().filter_map(|step| Some((side(step)?, step.common))) {
        match pieces.last_mut() {
            Some(piece) if piece.common == common => piece.text.push(letter),
            _ => pieces.push(Piece { text: letter.to_string(), common }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The textbook's, without a band.
    fn plain(a: &str, b: &str) -> usize {
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        let mut above: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut row = vec![i + 1];
            for (j, y) in b.iter().enumerate() {
                row.push((above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1));
            }
            above = row;
        }
        above[b.len()]
    }

    #[test]
    fn what_differs_is_told_apart() {
        let show = |pieces: &[Piece]| -> String {
            pieces.iter().map(|p| if p.common { p.text.clone() } else { format!("[{}]", p.text) }).collect()
        };
        for (a, b, shown) in [
            ("refs/heads/dev", "refs/heads/main", ["refs/heads/[dev]", "refs/heads/[main]"]),
            ("pull_request", "pull-request", ["pull[_]request", "pull[-]request"]),
            ("same", "same", ["same", "same"]),
            ("", "x", ["", "[x]"]),
            ("octo@1/app@2:ref", "octo/app:ref", ["octo[@1]/app[@2]:ref", "octo/app:ref"]),
            ("heads/feature/login", "heads/main", ["heads/[feature/login]", "heads/[main]"]),
        ] {
            let found = pieces(a, b);
            assert_eq!(found.map(|side| show(&side)), shown);
        }
    }

    proptest! {
        #[test]
        fn the_band_changes_nothing_within_it(a in "[ab:/]{0,20}", b in "[ab:/]{0,20}", most in 0..20_usize) {
            let distance = plain(&a, &b);
            prop_assert_eq!(super::distance(&a, &b, most), (distance <= most).then_some(distance));
        }

        #[test]
        fn pieces_make_up_the_texts_and_share_what_is_common(a in "\\PC{0,30}", b in "[ab\u{430}]{0,30}") {
            let found = pieces(&a, &b);
            let whole = |side: &[Piece]| side.iter().map(|piece| piece.text.as_str()).collect::<String>();
            let common = |side: &[Piece]| -> String {
                side.iter().filter(|piece| piece.common).map(|piece| piece.text.as_str()).collect()
            };
            prop_assert_eq!([whole(&found[0]), whole(&found[1])], [a, b]);
            prop_assert_eq!(common(&found[0]), common(&found[1]));
        }
    }
}
