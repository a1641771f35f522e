//! What the agent answers: a line for each path that programs of the guest changed, and one that says how it ended.

const DONE: &str = "molde: done";
const FAILED: &str = "molde: failed: ";
const TOUCHED: &str = "molde: touched ";
const MORE: &str = "molde: more ";

/// Longest answer in bytes.
pub const ANSWER_MAX: usize = 1 << 20;
/// Most paths that are named, and the longest text of one in bytes.
const PATHS_MAX: usize = 4000;
const PATH_MAX: usize = 200;
/// Longest reason in bytes.
const WHY_MAX: usize = 2000;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All was changed, and every file system was unmounted. What programs of the guest changed is told.
    Done(Touched),
    /// Something stood in the way, in a sentence without its full stop.
    Failed(String),
}

/// The paths that programs of the guest changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// The first of them, by path.
    pub paths: Vec<(Touch, String)>,
    /// How many more there are.
    pub more: u64,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// It is new.
    Created,
    /// It is not what it was, or was written anew.
    Changed,
    /// It is gone.
    Deleted,
}

impl Touch {
    const ALL: [Self; 3] = [Self::Created, Self::Changed, Self::Deleted];

    /// Returns `+`, `*` or `-`.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Created => '+',
            Self::Changed => '*',
            Self::Deleted => '-',
        }
    }
}

impl Touched {
    /// Adds a path; control characters and what is too long are left out.
    pub fn add(&mut self, touch: Touch, path: &[u8]) {
        if self.paths.len() == PATHS_MAX {
            self.more += 1;
        } else {
            self.paths.push((touch, cut(&String::from_utf8_lossy(path), PATH_MAX)));
        }
    }
}

impl Answer {
    /// Returns the lines, with their ends.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Done(touched) => {
                let line = |(touch, path): &(Touch, String)| format!("{TOUCHED}{}{path}\n", touch.sign());
                let more = if touched.more == 0 { String::new() } else { format!("{MORE}{}\n", touched.more) };
                touched.paths.iter().map(line).collect::<String>() + &more + DONE + "\n"
            }
            Self::Failed(why) => format!("{FAILED}{}\n", cut(why, WHY_MAX)),
        }
    }

    /// Reads what came from the serial port; none where it is no whole answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..ANSWER_MAX).unwrap_or(bytes)).ok()?;
        let mut touched = Touched::default();
        for line in text.split_inclusive('\n') {
            let line = line.strip_suffix('\n')?.trim_end_matches('\r');
            if line == DONE {
                return Some(Self::Done(touched));
            } else if let Some(why) = line.strip_prefix(FAILED) {
                return Some(Self::Failed(why.to_owned()));
            } else if let Some(more) = line.strip_prefix(MORE) {
                touched.more = more.parse().ok()?;
            } else {
                let mut path = line.strip_prefix(TOUCHED)?.chars();
                let sign = path.next()?;
                let touch = Touch::ALL.into_iter().find(|touch| touch.sign() == sign)?;
                touched.paths.push((touch, path.as_str().to_owned()));
            }
        }
        None
    }
}

fn cut(text: &str, most: usize) -> String {
    let mut text: String = text.chars().filter(|character| !character.is_control()).collect();
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_how_it_ended() {
        let mut touched = Touched::default();
        touched.add(Touch::Created, b"/etc/cloud");
        touched.add(Touch::Changed, "/boot/ä b".as_bytes());
        touched.add(Touch::Deleted, b"/etc/x");
        touched.more = 7;
        let done = [Answer::Done(Touched::default()), Answer::Done(touched)];
        for answer in done.into_iter().chain([Answer::Failed("ä file is there".to_owned())]) {
            let text = answer.to_text();
            assert_eq!(Answer::parse(text.as_bytes()), Some(answer.clone()));
            assert_eq!(Answer::parse(text.replace('\n', "\r\n").as_bytes()), Some(answer));
            assert_eq!(Answer::parse(text.trim_end().as_bytes()), None);
        }
        assert_eq!(Answer::parse(b"molde: don\n"), None);
        assert_eq!(Answer::parse(b"molde: touched /a\nmolde: done\n"), None);
        assert_eq!(Answer::parse(b"\xff\n"), None);
    }

    #[test]
    fn no_answer_is_too_long() {
        let mut touched = Touched::default();
        (0..PATHS_MAX + 2).for_each(|_| touched.add(Touch::Created, "\n\u{1f600}".repeat(2000).as_bytes()));
        assert_eq!((touched.paths.len(), touched.more), (PATHS_MAX, 2));
        let done = Answer::Done(touched);
        assert!(done.to_text().len() <= ANSWER_MAX && Answer::parse(done.to_text().as_bytes()) == Some(done));
        let failed = Answer::Failed("\n\u{1f600}".repeat(2000)).to_text();
        assert!(failed.len() <= ANSWER_MAX && Answer::parse(failed.as_bytes()).is_some());
    }
}
