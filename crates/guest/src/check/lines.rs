//! Editing texts line by line, so that everything else in them stays as its owner wrote it.

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Keep,
    Drop,
    Become(String),
}

/// Begins a comment that prepare makes of a line.
pub(super) const MARK: &str = "# molde: ";

/// Returns `text` with each line as `edit` says, which gets its index and the line without its end; none where nothing
/// changes. Ends of lines stay as they are.
pub(super) fn edit(text: &str, mut edit: impl FnMut(usize, &str) -> Line) -> Option<String> {
    let mut result = String::with_capacity(text.len());
    let mut is_changed = false;
    for (index, whole) in text.split_inclusive('\n').enumerate() {
        let line = whole.strip_suffix('\n').unwrap_or(whole);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match edit(index, line) {
            Line::Keep => result.push_str(whole),
            Line::Drop => is_changed = true,
            Line::Become(new) => {
                is_changed |= new != line;
                result.push_str(&new);
                result.push_str(&whole[line.len()..]);
            }
        }
    }
    is_changed.then_some(result)
}

/// Returns `line` with each of its words, parted by blanks, as `edit` says; blanks stay, one before a dropped word goes.
pub(super) fn edit_words(line: &str, mut edit: impl FnMut(&str) -> Line) -> String {
    let mut result = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let length = rest[blanks..].find([' ', '\t']).unwrap_or(rest.len() - blanks);
        let (gap, word) = (&rest[..blanks], &rest[blanks..blanks + length]);
        rest = &rest[blanks + length..];
        match if word.is_empty() { Line::Keep } else { edit(word) } {
            Line::Keep => result.extend([gap, word]),
            Line::Drop => {}
            Line::Become(new) => result.extend([gap, &new]),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_stay() {
        let upper = |_: usize, line: &str| if line == "b" { Line::Become("B".into()) } else { Line::Keep };
        assert_eq!(edit("a\r\nb\r\nc", upper).as_deref(), Some("a\r\nB\r\nc"));
        assert_eq!(edit("a\nb", upper).as_deref(), Some("a\nB"));
        assert_eq!(edit("a\n\n", upper), None);
        assert_eq!(
            edit("a\nb\nc\n", |_, line| if line == "b" { Line::Drop } else { Line::Keep }).as_deref(),
            Some("a\nc\n")
        );
        assert_eq!(edit("", upper), None);
    }

    #[test]
    fn blanks_between_words_stay() {
        let change = |word: &str| match word {
            "x" => Line::Drop,
            "y" => Line::Become("yy".into()),
            _ => Line::Keep,
        };
        assert_eq!(edit_words("\tlinux  a x y\tz ", change), "\tlinux  a yy\tz ");
        assert_eq!(edit_words("x", change), "");
        assert_eq!(edit_words("", change), "");
    }
}
